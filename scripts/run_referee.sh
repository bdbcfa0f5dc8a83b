#!/usr/bin/env bash
# Are the base models as good as those of RecBole on the same data? Goes on where it was stopped.
#   RECBOLE_PYTHON=DIR/bin/python bash scripts/run_referee.sh [NAME] [PATH] --recipe accurate [--seeds 1,2,3]
#                                      [--referee_models ncf,mf,lightgcn] [--flag value ...]
# NAME and PATH as in run_all.sh. The training options, such as the recipe, are NCF's; the others have the recipes of their
# names. RecBole 1.2.1 has a Python of its own, which is made once by:
#   python3.11 -m venv DIR && DIR/bin/pip install torch recbole==1.2.1 'numpy<2' 'pandas<2.3' 'scipy<1.12'
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
study referee "$@"
