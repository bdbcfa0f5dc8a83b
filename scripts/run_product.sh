#!/usr/bin/env bash
# Does holding nothing out cost anything? Hides the last interactions, decides the rest both ways; goes on where it stopped.
#   bash scripts/run_product.sh [NAME] [PATH] [--product_strategies none,ifrqe,ask-first] [--recipe fast] [--seeds 1,2,3]
#                               [--flag value ...]
# NAME and PATH as in run_all.sh. The data are made if they are not there.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study product "$@"
