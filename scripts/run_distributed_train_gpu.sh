#!/usr/bin/env bash
# On several GPUs: trains the masked model, and the plain one if there is none, in processes that share out the users.
#   bash scripts/run_distributed_train_gpu.sh [RANKS] [DATA_PATH] [CKPT] [--flag value ...]     dataset from $DATASET (ml-1m)
#   RANKS  processes, each on a GPU of its own (2)
flags_of=run_train
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
ranks_argument "$@"
flags=(--device_target GPU "${flags[@]}")
train_both
