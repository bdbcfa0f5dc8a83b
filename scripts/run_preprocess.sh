#!/usr/bin/env bash
# Trains the plain NCF if there is none; influences, mask and masked dataset.
#   bash scripts/run_preprocess.sh [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...]     dataset from $DATASET (ml-1m)
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
"$PY" "$root/preprocess.py" "${flags[@]+"${flags[@]}"}"
