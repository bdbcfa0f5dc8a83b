#!/usr/bin/env bash
# All tables of docs/results.md by the studies, into results/, and the pages that show them; goes on where it was stopped.
#   bash scripts/run_results.sh [NAMES] --data FOLDER [--overwrite]  NAMES: as in results/tables.yaml, or their beginnings
#   bash scripts/run_results.sh [NAMES] --data FOLDER --quick        one seed of the small ones, into output/results-quick
#   bash scripts/run_results.sh [NAMES] --check                      names tables whose study has changed since; exit 1 if any
# FOLDER has the data files that results/tables.yaml names.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"
run_module studies.tables "$@"
