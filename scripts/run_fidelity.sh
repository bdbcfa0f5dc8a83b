#!/usr/bin/env bash
# Do the influences predict real retraining? Retrains on random halves; goes on where it was stopped.
#   bash scripts/run_fidelity.sh [NAME] [PATH] [--fidelity_masks 32] [--fidelity_repeats 2] [--flag value ...]
# NAME and PATH as in run_all.sh. The data and the model are made if they are not there.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study fidelity "$@"
