"""Training NCF: the step, the epochs, checkpoints, and the train stage."""
