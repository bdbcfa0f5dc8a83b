# Sourced by the other scripts: goes to the project folder, sets $PY, and splits the arguments.
set -euo pipefail
unset CDPATH PYTHONSAFEPATH PYTHONHOME PYTHONWARNINGS PYTHONOPTIMIZE
caller=$PWD
cd -- "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

# The interpreter: $PYTHON if set, as the caller means it, else that of .venv, made if need be.
if [ -n "${PYTHON:-}" ]; then
    PY=$PYTHON
    case "$PY" in /*) ;; */*) PY=$caller/$PY ;; esac
    if ! command -v "$PY" >/dev/null; then
        echo "error: PYTHON=$PYTHON: not found, or no program; name an interpreter, or unset PYTHON" >&2
        exit 2
    fi
    if ! reason=$("$PY" -c 'import mindspore' 2>&1); then
        echo "error: PYTHON=$PYTHON: cannot import mindspore ($(tail -n 1 <<<"$reason"));" \
             "install requirements.txt there, or unset PYTHON" >&2
        exit 2
    fi
else
    # packages of another Python; but Ascend's own are found in this way
    [ -n "${ASCEND_TOOLKIT_HOME:-}${ASCEND_HOME_PATH:-}" ] || unset PYTHONPATH
    bash scripts/setup_env.sh
    PY=.venv/bin/python
fi

# split_arguments "$@": positional arguments go to the array `positional`, from the first --flag on to `flags`.
positional=()
flags=()
# Relative paths among the flags mean the caller's folder, as --flag value, --flag=value and in lists.
split_arguments() {
    while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
        positional+=("$1")
        shift
    done
    while [ $# -gt 0 ]; do
        local name=${1%%=*}
        case "$name" in
            --masked)
                echo "error: $1: the scripts handle both models; leave it out, or use train.py and eval.py" >&2
                exit 2 ;;
            --strategy | --solver | --tradeoff_strategies | --fidelity_solvers | --data_path | --output_path | \
            --checkpoint_path | --decisions_path | --config_path | --archive | --eval_negatives | --eval_item_list | \
            --willingness_file)
                if [ "$name" != "$1" ]; then
                    flags+=("$name=$(absolute_value "$name" "${1#*=}")")
                elif [ $# -gt 1 ]; then
                    flags+=("$1" "$(absolute_value "$name" "$2")")
                    shift
                else
                    flags+=("$1")
                fi ;;
            *) flags+=("$1") ;;
        esac
        shift
    done
}

# absolute_value NAME VALUE: the value of an option with its paths as the caller means them.
absolute_value() {
    case "$1" in
        --strategy | --solver | --tradeoff_strategies | --fidelity_solvers) absolute_files "$2" ;;
        *) absolute "$2" ;;
    esac
}

# absolute PATH: the path as the caller means it; an empty one stays empty.
absolute() {
    case "$1" in
        /* | "") echo "$1" ;;
        *) echo "$caller/$1" ;;
    esac
}

# absolute_files LIST: a list of names with commas, in which those of Python files are paths as the caller means them.
absolute_files() {
    local name list=()
    IFS=, read -r -a list <<<"$1"
    for name in "${!list[@]}"; do
        case "${list[$name]}" in *.py) list[name]=$(absolute "${list[$name]}") ;; esac
    done
    (IFS=,; echo "${list[*]-}")
}

# given_flag NAME: whether the flags set the option.
given_flag() {
    local flag
    for flag in "${flags[@]+"${flags[@]}"}"; do
        case "$flag" in "--$1" | "--$1="*) return 0 ;; esac
    done
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
    if [ ${#positional[@]} -gt 0 ]; then given+=(--data_path "$(absolute "${positional[0]}")"); fi
    if [ ${#positional[@]} -gt 1 ]; then
        local checkpoints=${positional[1]}
        case "$checkpoints" in
            */NCF.ckpt | */IFRQE.ckpt | NCF.ckpt | IFRQE.ckpt) checkpoints=$(dirname "$checkpoints") ;;
            *.ckpt)
                echo "error: $checkpoints: a folder with NCF.ckpt and IFRQE.ckpt is needed, or the path of one of these" >&2
                exit 2 ;;
        esac
        given+=(--checkpoint_path "$(absolute "$checkpoints")")
    fi
    if [ ${#positional[@]} -gt 2 ]; then given+=(--device_id "${positional[2]}"); fi
    flags=("${given[@]+"${given[@]}"}" "${flags[@]+"${flags[@]}"}")
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
    elif ! given_flag dataset && ! given_flag config_path; then
        given+=(--dataset simulation)
    fi
    if [ ${#positional[@]} -gt 1 ]; then given+=(--archive "$(absolute "${positional[1]}")"); fi
    flags=("${given[@]+"${given[@]}"}" "${flags[@]+"${flags[@]}"}")
}

# train_both: the masked model, and the plain one if there is none.
train_both() {
    local folder
    folder=$("$PY" -m src.config checkpoint_path "${flags[@]}")
    if [ ! -f "$folder/NCF.ckpt" ]; then
        "$PY" train.py "${flags[@]}"
    fi
    "$PY" train.py "${flags[@]}" --masked
}

# evaluate_both: both models and the table that compares them.
evaluate_both() {
    "$PY" eval.py "${flags[@]}"
    "$PY" eval.py "${flags[@]}" --masked
}
