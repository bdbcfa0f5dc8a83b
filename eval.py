"""Evaluates the plain model, or with --masked the masked one, on the test items; then prints both side by side."""
from src.evaluation import evaluate
from src.stage import main

if __name__ == "__main__":
    main(evaluate, "run_eval", __doc__)
