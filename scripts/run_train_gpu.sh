#!/usr/bin/env bash
# On the GPU: trains the masked model, and the plain one if there is none.
#   bash scripts/run_train_gpu.sh [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...]     dataset from $DATASET (ml-1m)
flags_of=run_train
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
flags=(--device_target GPU "${flags[@]+"${flags[@]}"}")
train_both
