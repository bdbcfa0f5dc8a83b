#!/usr/bin/env bash
# Makes .venv with a suitable Python, the pinned requirements and `import ifrqe`; returns at once if that is done.
#   bash scripts/setup_env.sh [--dev]     --dev adds what the tests and the linter need
#   MINDSPORE=2.0.0 bash scripts/...      the oldest MindSpore that is supported, for CPython 3.9
set -euo pipefail
unset CDPATH PYTHONSAFEPATH PYTHONHOME PYTHONWARNINGS PYTHONOPTIMIZE
# where pip would put packages; indexes, proxies and certificates stay as they are set
unset PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_VIRTUALENV PIP_REQUIREMENT PIP_NO_DEPS PIP_DRY_RUN
cd -- "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

case "${MINDSPORE:-}" in
    "" | 2.10.0) files=(requirements.txt) candidates="python3.11 python3.12 python3.10 python3 python" \
        range="(3, 10) <= sys.version_info[:2] <= (3, 12)" words="CPython 3.10 to 3.12" ;;
    2.0.0) files=(requirements-ms2.0.txt) candidates="python3.9 python3 python" \
        range="sys.version_info[:2] == (3, 9)" words="CPython 3.9" ;;
    *) echo "error: MINDSPORE=$MINDSPORE: there are pinned requirements for 2.0.0 and 2.10.0; install others yourself and" \
            "name the interpreter with PYTHON" >&2
       exit 2 ;;
esac
if [ "${1:-}" = "--dev" ]; then
    files+=(requirements-dev.txt)
fi
done_mark=.venv/installed-${#files[@]}.txt

# link_project: src becomes importable as ifrqe, by a link within .venv; pip would leave a folder in the checkout.
link_project() {
    local site
    for site in .venv/lib/python3*/site-packages; do
        if [ -w "$site" ] && [ ! -f "$site/ifrqe.pth" ]; then
            mkdir -p .venv/library
            ln -sfn ../../src .venv/library/ifrqe
            echo ../../../library > "$site/ifrqe.pth"
        fi
    done
}
if [ -x .venv/bin/python ] && [ -f "$done_mark" ] && [ "$(cat "${files[@]}")" = "$(cat "$done_mark")" ]; then
    link_project  # which an earlier version did not do
    exit 0
fi

suitable="import sys, venv, ensurepip; sys.exit(not $range)"
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
        echo "error: no suitable Python: MindSpore needs $words with the venv module;" \
             "looked for $candidates on the PATH; install one (Debian, Ubuntu: apt install python3.11 python3.11-venv)" >&2
        exit 2
    fi
    if [ ! -w . ]; then
        echo "error: $PWD: cannot be written, so that .venv cannot be made; name an interpreter with PYTHON" >&2
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
if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-user "${arguments[@]}"; then
    echo "error: pip could not install ${files[*]}; its own words are above; check the network and the space on the disk," \
         "then run this script again" >&2
    exit 2
fi
link_project
cat "${files[0]}" > .venv/installed-1.txt
cat "${files[@]}" > "$done_mark"
