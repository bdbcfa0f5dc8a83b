#!/usr/bin/env bash
# What does unwillingness as people have it cost or gain, and whom? Trains and scores masks; goes on where it was stopped.
#   bash scripts/run_people.sh [NAME] [PATH] [--people_kinds uniform,mixed,genre,ratings,rarity,some] [--personal auto]
#                              [--seeds 1,2,3] [--flag value ...]
# NAME and PATH as in run_all.sh. The data and the models are made if they are not there.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study people "$@"
