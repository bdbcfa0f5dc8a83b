#!/usr/bin/env bash
# What do the models still tell of what users withhold? Guesses, membership, tastes; goes on where it was stopped.
#   bash scripts/run_audit.sh [NAME] [PATH] [--wv_budget 0.6] [--audit_strategies none,threshold,ifrqe] [--flag value ...]
# NAME and PATH as in run_all.sh. Data and models are made if not there.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study audit "$@"
