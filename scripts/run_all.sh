#!/usr/bin/env bash
# All stages in one go, on any device; without arguments offline, on the built-in simulated dataset.
#   bash scripts/run_all.sh [NAME] [PATH] [--flag value ...]
#   NAME  simulation, a MovieLens release (ml-100k, ml-1m, ...; downloaded if there is no PATH), or a new name for PATH
#   PATH  GroupLens .zip, RecBole .inter, .csv or .parquet (user_id,item_id[,rating,timestamp]), or a folder of .parquet
flags_of=run_download_dataset,run_train,run_preprocess,run_eval
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
named_dataset "$@"
run_module src.movielens "${flags[@]}"
"$PY" "$root/train.py" "${flags[@]}"
"$PY" "$root/preprocess.py" "${flags[@]}"
"$PY" "$root/train.py" "${flags[@]}" --masked
evaluate_both
