#!/usr/bin/env bash
# Makes .venv with a suitable Python and installs the pinned requirements; returns at once if that is done.
#   bash scripts/setup_env.sh [--dev]     --dev adds what the tests and the linter need
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

files=(requirements.txt)
if [ "${1:-}" = "--dev" ]; then
    files+=(requirements-dev.txt)
fi
done_mark=.venv/installed-${#files[@]}.txt
if [ -x .venv/bin/python ] && cmp -s <(cat "${files[@]}") "$done_mark"; then
    exit 0
fi

candidates="python3.11 python3.12 python3.10 python3 python"
suitable='import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'
# an interrupted set-up leaves a .venv without pip
if ! { .venv/bin/python -c "$suitable" && .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
    found=""
    for name in $candidates; do
        if "$name" -c "$suitable" >/dev/null 2>&1; then
            found=$name
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "error: no suitable Python: MindSpore needs CPython 3.10 to 3.12 with the venv module;" \
             "looked for $candidates on the PATH; install one (Debian, Ubuntu: apt install python3.11 python3.11-venv)" >&2
        exit 2
    fi
    echo "setting up .venv with $("$found" --version)"
    "$found" -m venv --clear .venv
fi
echo "installing ${files[*]} (about 800 MB to download the first time)"
arguments=()
for file in "${files[@]}"; do
    arguments+=(-r "$file")
done
if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check "${arguments[@]}"; then
    echo "error: pip could not install ${files[*]}; check the network, then run this script again" >&2
    exit 2
fi
cat "${files[@]}" > "$done_mark"
