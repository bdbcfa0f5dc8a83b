#!/usr/bin/env bash
# Time and memory of the influences of 1, 5 and 20 million simulated ratings.
#   bash scripts/run_scaling.sh [--solver blend] [--chunk_size 65536] [--flag value ...]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
run_module benchmarks.scaling "${flags[@]+"${flags[@]}"}"
