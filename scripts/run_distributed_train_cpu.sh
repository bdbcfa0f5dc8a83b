#!/usr/bin/env bash
# On the CPU: trains the masked model, and the plain one if there is none, in processes that share out the users.
#   bash scripts/run_distributed_train_cpu.sh [RANKS] [DATA_PATH] [CKPT] [--flag value ...]     dataset from $DATASET (ml-1m)
#   RANKS  processes (2)
flags_of=run_train
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
ranks_argument "$@"
flags=(--device_target CPU "${flags[@]}")
train_both
