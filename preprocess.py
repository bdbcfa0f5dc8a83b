"""Computes influences, decides what each user discloses, and writes the masked dataset."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where PYTHONSAFEPATH is set, Python does not do it

from src.common.stage import main  # noqa: E402
from src.game.preprocess import preprocess  # noqa: E402

if __name__ == "__main__":
    main(preprocess, "run_preprocess", __doc__)
