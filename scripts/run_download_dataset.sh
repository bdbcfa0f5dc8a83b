#!/usr/bin/env bash
# Downloads (or generates) the dataset and writes it in the project's format.
#   bash scripts/run_download_dataset.sh [DATA_PATH] [--archive FILE] [--flag value ...]     dataset from $DATASET (ml-1m)
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
stage_arguments "$@"
run_module src.movielens "${flags[@]+"${flags[@]}"}"
