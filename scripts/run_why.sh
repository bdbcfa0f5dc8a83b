#!/usr/bin/env bash
# Do the sets that `eval.py --why` names hold? Retrains without them; goes on after the last seed that was finished.
#   bash scripts/run_why.sh [NAME] [PATH] [--recipe fast] [--top_k 10] [--seeds 1,2,3,4,5] [--flag value ...]
# NAME and PATH as in run_all.sh. The data are made if they are not there.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study why "$@"
