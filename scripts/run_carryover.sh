#!/usr/bin/env bash
# Do masks carry over? Recommenders that had no part in a mask are trained on it and judge it; goes on where it was stopped.
#   bash scripts/run_carryover.sh [NAME] [PATH] [--wv_budget 0.6] [--carryover_models ncf,mf,lightgcn]
#        [--carryover_strategies none,threshold,ifrqe] [--carryover_judges item-knn,ease,ncf] [--seeds 1,2] [--flag value ...]
# The base models that decide, one by one, train by their recipes, that of --model by the training options. NAME and PATH as
# in run_all.sh. The data and the models are made if they are not there. item-knn, als and bpr need the package implicit
# (.venv/bin/pip install implicit) and are left out without it.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study carryover "$@"
