#!/usr/bin/env bash
# Seconds and memory of each stage on ever larger data, each in a process of its own.
#   bash scripts/run_scaling.sh [simulation|yambda] [--scaling_sizes 1,5,20] [--scaling_stages data,mask,retrain]
#                               [--recipe fast] [--flag value ...]
# yambda: a Parquet file of the shape of that data set, 100 million interactions with --scaling_sizes 100.
flags_of=run_download_dataset,run_train,run_preprocess,run_eval,run_scaling
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
named_dataset "$@"
run_module benchmarks.scaling "${flags[@]}"
