#!/usr/bin/env bash
# Speed of the training step on this machine; run_scaling.sh has that of all stages.
#   bash scripts/run_benchmark.sh [DATA_PATH] [--flag value ...]     dataset from $DATASET (ml-1m)
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
run_module benchmarks.benchmark "${flags[@]+"${flags[@]}"}"
