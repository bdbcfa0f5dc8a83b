"""Evaluates the plain model, or with --masked the masked one, on the test items; then prints both side by side and reports.

--recommend shows recommendations instead, --explain_user what was decided for a user and why.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where PYTHONSAFEPATH is set, Python does not do it

from src.report import answer  # noqa: E402
from src.stage import main  # noqa: E402

if __name__ == "__main__":
    main(answer, "run_eval", __doc__)
