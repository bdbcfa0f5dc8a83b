#!/usr/bin/env bash
# Is withdrawing as good as training anew, and as SISA? Goes on where it was stopped.
#   bash scripts/run_withdrawal.sh [NAME] [PATH] [--withdrawal_test CSV] [--recipe fast] [--seeds 1,2,3] [--flag value ...]
# NAME and PATH as in run_all.sh. The data are made if they are not there.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study withdrawal "$@"
