"""Computes influences, decides what each user discloses, and writes the masked dataset."""
from src.masking import preprocess
from src.stage import main

if __name__ == "__main__":
    main(preprocess, "run_preprocess", __doc__)
