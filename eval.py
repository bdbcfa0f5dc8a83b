"""Evaluates the plain model, or with --masked the masked one, on the test items; then prints both side by side and reports.

--recommend shows recommendations instead, --explain_user what was decided for a user and why.
"""
from src.report import answer
from src.stage import main

if __name__ == "__main__":
    main(answer, "run_eval", __doc__)
