"""Evaluates the plain model, or with --masked the masked one, on the test items; then prints both side by side and reports.

--recommend shows recommendations instead, --explain_user what was decided for a user and why, --why the fewest interactions
without which an item is not recommended; --receipt writes what was decided to a file for them, --verify_receipt checks one.
"""
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where PYTHONSAFEPATH is set, Python does not do it

from src.common.seeds import over_seeds  # noqa: E402
from src.common.variant import asked  # noqa: E402
from src.constants import eval_file  # noqa: E402
from src.evaluation.compare import OF_THE_SEED, not_comparable  # noqa: E402
from src.ranks.start import main  # noqa: E402


def evaluate_and_report(config):
    """Evaluates the model that --masked names; the report shows both if both are there."""
    from src.evaluation.evaluate import evaluate  # not at the top: --help does without MindSpore
    from src.report.page import write_report
    write_report(asked(config), evaluate(asked(config)))


def run(config):
    """Evaluation and report, or recommendations, or what was decided for users, shown or written as receipts."""
    if config.recommend:
        from src.evaluation.recommend import recommend
        recommend(asked(config))
    elif config.explain_user:
        from src.evaluation.explain import explain
        explain(asked(config))
    elif config.why:
        from src.evaluation.why import why
        why(asked(config))
    elif config.receipt:
        from src.report.receipt_page import write_receipts
        write_receipts(config)
    elif config.verify_receipt:
        from src.report.receipt_page import verify_receipt
        verify_receipt(config)
    else:
        record_file = eval_file if config.holdout else None
        over_seeds(evaluate_and_report, record_file, functools.partial(not_comparable, but=OF_THE_SEED))(config)


if __name__ == "__main__":
    main(run, "run_eval", __doc__)
