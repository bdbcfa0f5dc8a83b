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
TRADEOFF_FILE = "tradeoff.csv"

TEXT_IDS, TIME_UNIT = "text_ids", "timestamp"  # keys of dataset.json: columns of ids that are text; the unit of times
MASK_SETTINGS = "mask_settings"  # key of dataset.json in a masked dataset: the options that the mask depends on
HOLDOUT = "holdout"  # option, and key of dataset.json in a masked dataset whose validation items are trained on
USER, ITEM, RATING, TIMESTAMP = "user_id", "item_id", "rating", "timestamp"
GENRE, GENRES = "genre", "genres"  # one of an item's genres, as rules name it; all of them, joined by "|"
TITLE = "title"
UNWILLINGNESS, INFLUENCE, EXPECTED, DISCLOSED = "unwillingness", "influence", "expected_influence", "disclosed"
RATING_COLUMNS = [USER, ITEM, RATING, TIMESTAMP]
MOVIE_COLUMNS = [ITEM, TITLE, GENRES]

PLAIN_MODEL = "NCF"
MASKED_MODEL = "IFRQE"
MASKED_PREFIX = "masked_"
SIMULATION = "simulation"
STUDY_SEEDS = 3  # of the trade-off study, if --seeds names none

# Options by what they change: a stage is done again when one that it depends on changes.
FILTER_KEYS = ("min_ratings", "max_ratings", "duplicates")
SIMULATION_KEYS = ("sim_users", "sim_items", "sim_ratings", "seed")
SPLIT_KEYS = ("holdout",)
MODEL_KEYS = ("layers", "num_factors")
TRAIN_KEYS = ("train_epochs", "batch_size", "num_neg", "learning_rate", "warmup_epochs", "beta1", "beta2", "epsilon",
              "embedding_std", "lazy_adam", "weight_decay", "average_epochs", "anchor_epochs", "patience",
              "num_eval_neg", "top_k", "seed")
INFLUENCE_KEYS = ("solver", "damping", "similarity_damping", "count_negatives", "influence_models", "influence_lags",
                  "lissa_depth", "lissa_batch", "lissa_scale", "lissa_damping", "num_neg", "seed")
FIDELITY_KEYS = ("fidelity_masks", "fidelity_repeats", "fidelity_keep", "fidelity_solvers")
UNWILLINGNESS_KEYS = ("unwillingness", "unwillingness_value", "veto")
GAME_KEYS = UNWILLINGNESS_KEYS + ("strategy", "wv_budget", "willingness_weight", "prior", "rounds", "game_rate",
                                  "count_others", "anchors", "anchor_placing", "anchor_use", "anchor_warm_epochs")
TRADEOFF_KEYS = ("tradeoff_strategies", "tradeoff_budgets")
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


def seeds_file(record):
    """File name of what the records `record` (see train_file, eval_file) of several seeds come to."""
    return record.replace(".json", "_seeds.json")


def users_file(model):
    """File name of the results of a model's evaluation user by user."""
    return f"eval_{model.lower()}_users.csv"
