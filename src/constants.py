"""Names that several stages share: files, models, and which options each stage depends on."""

RATINGS_FILE = "ratings.csv"
MOVIES_FILE = "movies.csv"
UNWILLINGNESS_FILE = "unwillingness.csv"
DATASET_FILE = "dataset.json"
DISCLOSURE_FILE = "disclosure.csv"
DISCLOSURE_PLOT = "disclosure.png"
PREPROCESS_FILE = "preprocess.json"
FIDELITY_FILE = "fidelity.json"
FIDELITY_PLOT = "fidelity.png"
PARTIAL_FILE = "influence.partial"

USER, ITEM, RATING, TIMESTAMP = "user_id", "item_id", "rating", "timestamp"
UNWILLINGNESS, INFLUENCE, DISCLOSED = "unwillingness", "influence", "disclosed"
RATING_COLUMNS = [USER, ITEM, RATING, TIMESTAMP]
MOVIE_COLUMNS = [ITEM, "title", "genres"]

PLAIN_MODEL = "NCF"
MASKED_MODEL = "IFRQE"
MASKED_PREFIX = "masked_"
SIMULATION = "simulation"

# Options by what they change: a stage is done again when one that it depends on changes.
FILTER_KEYS = ("min_ratings", "max_ratings", "duplicates")
SIMULATION_KEYS = ("sim_users", "sim_items", "sim_ratings", "seed")
SPLIT_KEYS = ("holdout",)
MODEL_KEYS = ("layers", "num_factors")
TRAIN_KEYS = ("train_epochs", "batch_size", "num_neg", "learning_rate", "warmup_epochs", "beta1", "beta2", "epsilon",
              "embedding_std", "lazy_adam", "weight_decay", "average_epochs", "anchor_epochs", "patience",
              "num_eval_neg", "top_k", "seed")
INFLUENCE_KEYS = ("solver", "damping", "similarity_damping", "count_negatives", "influence_models", "lissa_depth",
                  "lissa_batch", "lissa_scale", "lissa_damping", "num_neg", "seed")
FIDELITY_KEYS = ("fidelity_masks", "fidelity_repeats", "fidelity_keep", "fidelity_solvers")
GAME_KEYS = ("unwillingness", "unwillingness_value", "wv_budget", "willingness_weight", "prior", "rounds", "game_rate")
EVAL_KEYS = ("num_eval_neg", "eval_negatives", "eval_item_list", "eval_mode", "top_k", "seed")


def checkpoint_file(model):
    """File name of a model's checkpoint."""
    return f"{model}.ckpt"


def train_file(model):
    """File name of a model's training record."""
    return f"train_{model.lower()}.json"


def eval_file(model):
    """File name of a model's evaluation record."""
    return f"eval_{model.lower()}.json"
