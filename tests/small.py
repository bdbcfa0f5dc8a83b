"""Options of a network and an evaluation that are small enough for a test."""
SMALL = ["--layers", "6,4", "--num_factors", 3, "--num_neg", 2, "--num_eval_neg", 5, "--train_epochs", 2, "--top_k", 3]
