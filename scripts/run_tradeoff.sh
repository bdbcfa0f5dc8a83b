#!/usr/bin/env bash
# The trade-off of every strategy over budgets and seeds: trains and scores them all; goes on where it was stopped.
#   bash scripts/run_tradeoff.sh [NAME] [PATH] [--tradeoff_budgets 0.1,0.3,0.6] [--tradeoff_strategies none,threshold,ifrqe]
#                                [--seeds 1,2,3] [--flag value ...]
# NAME and PATH as in run_all.sh. The data and the models are made if they are not there.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study tradeoff "$@"
