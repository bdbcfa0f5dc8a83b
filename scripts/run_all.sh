#!/usr/bin/env bash
# All stages in one go, on any device; without arguments offline, on the built-in simulated dataset.
#   bash scripts/run_all.sh [NAME] [PATH] [--flag value ...]
#   NAME  simulation, a MovieLens release (ml-100k, ml-1m, ...; downloaded if there is no PATH), or a new name for PATH
#   PATH  GroupLens .zip, RecBole .inter, or .csv (user_id,item_id[,rating,timestamp])
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
split_arguments "$@"
if [ ${#positional[@]} -gt 2 ]; then
    echo "error: unexpected argument ${positional[2]}; usage: [NAME] [PATH] [--flag value ...]" >&2
    exit 2
fi
given=()
if [ ${#positional[@]} -gt 0 ]; then
    given+=(--dataset "${positional[0]}")
elif ! given_flag dataset && ! given_flag config_path; then
    given+=(--dataset simulation)
fi
if [ ${#positional[@]} -gt 1 ]; then given+=(--archive "$(absolute "${positional[1]}")"); fi
flags=("${given[@]+"${given[@]}"}" "${flags[@]+"${flags[@]}"}")
"$PY" -m src.movielens "${flags[@]}"
"$PY" train.py "${flags[@]}"
"$PY" preprocess.py "${flags[@]}"
"$PY" train.py "${flags[@]}" --masked
evaluate_both
