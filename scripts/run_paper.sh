#!/usr/bin/env bash
# The paper's own table: MF, NeuMF and LightGCN by its protocol and options; goes on where it was stopped.
#   bash scripts/run_paper.sh [ARCHIVE.inter] [--seeds 1,2,3] [--paper_models mf,ncf,lightgcn] [--flag value ...]
# Without ARCHIVE a simulation of the paper's size in ./data/paper. ARCHIVE: a RecBole .inter (Steam, Diginetica) or .csv,
# whose name is the dataset's; users with more than 10 interactions are left out, as in the paper (--max_ratings 0: none).
flags_of=run_download_dataset,run_paper
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
split_arguments "$@"
if [ ${#positional[@]} -gt 1 ]; then
    echo "error: unexpected argument ${positional[1]}; usage: [ARCHIVE.inter] [--flag value ...]" >&2
    exit 2
fi
given=()
unless_given() { given_option "$1" || given+=("--$1" "$2"); }
if [ ${#positional[@]} -gt 0 ]; then
    name=$(basename -- "${positional[0]}")
    name=${name%.*}
    given+=(--archive "${positional[0]}")
    unless_given dataset "${name//[^[:alnum:]._+-]/_}"
fi
if [ ${#positional[@]} -gt 0 ] || given_option dataset; then
    unless_given max_ratings 10
else
    given+=(--dataset simulation)
    unless_given data_path ./data/paper  # a folder of its own: it is another simulation than that of the other scripts
    unless_given sim_users 1000
    unless_given sim_items 1000
    unless_given sim_ratings 6148
fi
flags=("${given[@]}" "${flags[@]+"${flags[@]}"}")
run_module src.movielens "${flags[@]}"
run_module studies.paper "${flags[@]}"
