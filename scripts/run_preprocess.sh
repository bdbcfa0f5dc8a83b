#!/usr/bin/env bash
# Influences, mask and masked dataset; trains what the strategy needs.
#   bash scripts/run_preprocess.sh [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...]     dataset from $DATASET (ml-1m)
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
"$PY" "$root/preprocess.py" "${flags[@]+"${flags[@]}"}"
