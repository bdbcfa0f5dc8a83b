"""Trains NCF on a dataset, or with --masked on its masked twin; writes the checkpoint and train_*.json."""
from src.constants import train_file
from src.repeats import over_seeds
from src.stage import main
from src.training import train

if __name__ == "__main__":
    main(over_seeds(train, train_file), "run_train", __doc__)
