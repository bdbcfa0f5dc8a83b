"""Evaluates the plain model, or with --masked the masked one, on the test items; then prints both side by side."""
from src.constants import eval_file
from src.evaluation import evaluate
from src.repeats import over_seeds
from src.stage import main

if __name__ == "__main__":
    main(over_seeds(evaluate, eval_file), "run_eval", __doc__)
