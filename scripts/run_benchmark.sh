#!/usr/bin/env bash
# Speed of the training step on this machine; run_scaling.sh has that of all stages. TORCH_PYTHON may name an interpreter
# that has PyTorch: the same step runs there in turn.
#   bash scripts/run_benchmark.sh [DATA_PATH] [--flag value ...]     dataset from $DATASET (ml-1m)
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
run_module benchmarks.benchmark "${flags[@]+"${flags[@]}"}"
