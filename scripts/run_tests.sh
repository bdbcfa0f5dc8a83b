#!/usr/bin/env bash
# Sets up what the tests need and runs them in two processes; arguments go to pytest, e.g. -m slow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
    bash scripts/setup_env.sh --dev
fi
exec "${PYTHON:-.venv/bin/python}" -m pytest -n 2 --dist loadfile "$@"
