#!/usr/bin/env bash
# Sets up what the tests need and runs them in two processes; arguments go to pytest, e.g. -m slow.
#   --portable   runs them under the instruction sets of older processors instead, on one core each and in random order
set -euo pipefail
export -n CDPATH 2>/dev/null || true
cd -- "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." >/dev/null
if [ -z "${PYTHON:-}" ]; then
    bash scripts/setup_env.sh --dev
fi
python=${PYTHON:-.venv/bin/python}
if [ "${1:-}" != "--portable" ]; then
    exec "$python" -m pytest -n 2 --dist worksteal "$@"
fi
shift
pin=()
if command -v taskset >/dev/null; then
    pin=(taskset -c 0)
fi
# what this NumPy can do beyond its baseline on this processor
features=$("$python" -W ignore -c 'from numpy.core import _multiarray_umath as m
print(" ".join(f for f in m.__cpu_dispatch__ if m.__cpu_features__.get(f)))')
status=0
for variables in ONEDNN_MAX_CPU_ISA=SSE41 ONEDNN_MAX_CPU_ISA=AVX ONEDNN_MAX_CPU_ISA=AVX2 "NPY_DISABLE_CPU_FEATURES=$features"; do
    echo "== $variables"
    env "$variables" "${pin[@]+"${pin[@]}"}" "$python" -m pytest --random-order "$@" || status=1
done
exit $status
