"""Trains NCF on a dataset, or with --masked on its masked twin; writes the checkpoint and train_*.json."""
from src.stage import main
from src.training import train

if __name__ == "__main__":
    main(train, "run_train", __doc__)
