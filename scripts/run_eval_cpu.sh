#!/usr/bin/env bash
# On the CPU: evaluates both models on the test items and prints them side by side.
#   bash scripts/run_eval_cpu.sh [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...]     dataset from $DATASET (ml-1m)
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
flags=(--device_target CPU "${flags[@]+"${flags[@]}"}")
evaluate_both
