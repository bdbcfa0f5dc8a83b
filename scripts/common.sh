# Sourced by the other scripts: sets $root, the project folder, and $PY, and splits the arguments.
# The current folder stays the caller's, so that relative paths mean what they say.
set -euo pipefail
unset CDPATH PYTHONSAFEPATH PYTHONHOME PYTHONWARNINGS PYTHONOPTIMIZE
root=$(cd -- "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)

# The interpreter: $PYTHON if set, else that of .venv, made if need be.
if [ -n "${PYTHON:-}" ]; then
    PY=$PYTHON
    if ! command -v "$PY" >/dev/null; then
        echo "error: PYTHON=$PYTHON: not found, or no program; name an interpreter, or unset PYTHON" >&2
        exit 2
    fi
else
    # packages of another Python; but Ascend's own are found in this way
    [ -n "${ASCEND_TOOLKIT_HOME:-}${ASCEND_HOME_PATH:-}" ] || unset PYTHONPATH
    bash "$root/scripts/setup_env.sh"
    PY=$root/.venv/bin/python
fi

# run_module NAME [--flag value ...]: `python -m NAME` of this project, from wherever the caller is.
run_module() {
    "$PY" -c 'import runpy, sys
sys.path[0] = sys.argv.pop(1)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)' "$root" "$@"
}

# split_arguments "$@": positional arguments go to the array `positional`, from the first --flag on to `flags`.
# A script of several programs names them in `flags_of`, so that each takes the flags of all.
positional=()
flags=()
split_arguments() {
    while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do
        positional+=("$1")
        shift
    done
    flags=("$@")
    local flag
    for flag in "$@"; do
        case "$flag" in
            -h | --help)
                sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
                echo "Flags: docs/options.md; train.py, preprocess.py and eval.py --help show those of each"
                exit 0 ;;
            --masked | --masked=*)
                echo "error: $flag: the scripts handle both models; leave it out, or use train.py and eval.py" >&2
                exit 2 ;;
        esac
    done
    if [ -n "${flags_of:-}" ]; then flags+=(--flags_of "$flags_of"); fi
}

# given_option NAME: whether the flags, or the YAML file that they name, set the option.
given_option() {
    if [ -z "${given_options+set}" ]; then given_options=$(run_module src.config given "${flags[@]+"${flags[@]}"}") || exit 2; fi
    case " $given_options " in *" $1 "*) return 0 ;; esac
    return 1
}

# stage_arguments "$@": [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...] become `flags`, the dataset that of $DATASET.
# CKPT is the folder of the checkpoints, or a checkpoint in it.
stage_arguments() {
    split_arguments "$@"
    if [ ${#positional[@]} -gt 3 ]; then
        echo "error: unexpected argument ${positional[3]}; usage: [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...]" >&2
        exit 2
    fi
    local given=()
    if [ -n "${DATASET:-}" ]; then given+=(--dataset "$DATASET"); fi
    if [ ${#positional[@]} -gt 0 ]; then given+=(--data_path "${positional[0]}"); fi
    if [ ${#positional[@]} -gt 1 ]; then
        local checkpoints=${positional[1]}
        case "$checkpoints" in
            */NCF.ckpt | */IFRQE.ckpt | */MF.ckpt | */LightGCN.ckpt | NCF.ckpt | IFRQE.ckpt | MF.ckpt | LightGCN.ckpt)
                checkpoints=$(dirname "$checkpoints") ;;
            *.ckpt)
                echo "error: $checkpoints: a folder with NCF.ckpt and IFRQE.ckpt is needed, or the path of one of these" >&2
                exit 2 ;;
        esac
        given+=(--checkpoint_path "$checkpoints")
    fi
    if [ ${#positional[@]} -gt 2 ]; then given+=(--device_id "${positional[2]}"); fi
    flags=("${given[@]+"${given[@]}"}" "${flags[@]+"${flags[@]}"}")
}

# ranks_argument "$@": [RANKS] before what stage_arguments takes.
ranks_argument() {
    local ranks=2
    if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
        ranks=$1
        shift
    fi
    stage_arguments "$@"
    flags=(--ranks "$ranks" "${flags[@]+"${flags[@]}"}")
}

# named_dataset "$@": [NAME] [PATH] [--flag value ...] become `flags`; without a name the simulation.
named_dataset() {
    split_arguments "$@"
    if [ ${#positional[@]} -gt 2 ]; then
        echo "error: unexpected argument ${positional[2]}; usage: [NAME] [PATH] [--flag value ...]" >&2
        exit 2
    fi
    local given=()
    if [ ${#positional[@]} -gt 0 ]; then
        given+=(--dataset "${positional[0]}")
    elif ! given_option dataset; then
        given+=(--dataset simulation)
    fi
    if [ ${#positional[@]} -gt 1 ]; then given+=(--archive "${positional[1]}"); fi
    flags=("${given[@]+"${given[@]}"}" "${flags[@]+"${flags[@]}"}")
}

# study NAME "$@": the data, and the study NAME of studies/ on them; arguments as of named_dataset.
study() {
    flags_of=run_download_dataset,run_$1
    named_dataset "${@:2}"
    run_module src.movielens "${flags[@]}"
    run_module "studies.$1" "${flags[@]}"
}

# train_both: the masked model, and the plain one if there is none.
train_both() {
    local folder model
    folder=$(run_module src.config checkpoint_path "${flags[@]}")
    model=$(run_module src.config plain_model "${flags[@]}")
    if [ ! -f "$folder/$model.ckpt" ]; then
        "$PY" "$root/train.py" "${flags[@]}"
    fi
    "$PY" "$root/train.py" "${flags[@]}" --masked
}

# evaluate_both: both models and the table that compares them.
evaluate_both() {
    "$PY" "$root/eval.py" "${flags[@]}"
    "$PY" "$root/eval.py" "${flags[@]}" --masked
    if given_option ranks && ! given_option master_addr; then  # the report needs the data of all users
        "$PY" "$root/eval.py" "${flags[@]}" --masked --ranks 1
    fi
}
