# Sourced by the other scripts: goes to the project folder, sets $PY, and splits the arguments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The interpreter: $PYTHON if set, else that of .venv, made if need be.
if [ -n "${PYTHON:-}" ]; then
    if ! "$PYTHON" -c 'import mindspore' >/dev/null 2>&1; then
        echo "error: PYTHON=$PYTHON: cannot import mindspore; install requirements.txt there, or unset PYTHON" >&2
        exit 2
    fi
    PY=$PYTHON
else
    bash scripts/setup_env.sh
    PY=.venv/bin/python
fi

# split_arguments "$@": positional arguments go to the array `positional`, from the first --flag on to `flags`.
positional=()
flags=()
split_arguments() {
    while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
        positional+=("$1")
        shift
    done
    flags=("$@")
}

# stage_arguments "$@": [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...] become `flags`, the dataset that of $DATASET.
# CKPT is the folder of the checkpoints, or a checkpoint in it.
stage_arguments() {
    split_arguments "$@"
    if [ ${#positional[@]} -gt 3 ]; then
        echo "error: unexpected argument ${positional[3]}; usage: [DATA_PATH] [CKPT] [DEVICE_ID] [--flag value ...]" >&2
        exit 2
    fi
    local given=(--dataset "${DATASET:-$("$PY" -m src.config dataset)}")
    if [ ${#positional[@]} -gt 0 ]; then given+=(--data_path "${positional[0]}"); fi
    if [ ${#positional[@]} -gt 1 ]; then
        case "${positional[1]}" in
            *.ckpt) given+=(--checkpoint_path "$(dirname "${positional[1]}")") ;;
            *) given+=(--checkpoint_path "${positional[1]}") ;;
        esac
    fi
    if [ ${#positional[@]} -gt 2 ]; then given+=(--device_id "${positional[2]}"); fi
    flags=("${given[@]}" "${flags[@]+"${flags[@]}"}")
}

# train_both: the masked model, and the plain one if there is none.
train_both() {
    if [ ! -f "$("$PY" -m src.config checkpoint_path "${flags[@]}")/NCF.ckpt" ]; then
        "$PY" train.py "${flags[@]}"
    fi
    "$PY" train.py "${flags[@]}" --masked
}

# evaluate_both: both models and the table that compares them.
evaluate_both() {
    "$PY" eval.py "${flags[@]}"
    "$PY" eval.py "${flags[@]}" --masked
}
