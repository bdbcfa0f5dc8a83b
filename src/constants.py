"""Names that several stages share: files, columns and models."""
RATINGS_FILE, MOVIES_FILE = "ratings.csv", "movies.csv"
HELD_OUT_FILE = "held_out.csv"  # of a masked dataset: what scores models, beside ratings.csv, which may train them
ARRAYS = USERS_FILE, INTERACTIONS_FILE, TIMES_FILE = "users.csv", "interactions.npy", "times.npy"  # see sources/arrays.py
USES_FILE = "uses.npy"  # of a masked dataset: (rows of its source's table,) int8, see Dataset.uses
UNWILLINGNESS_FILE, WITHDRAWN_FILE, WITHDRAW_FILE = "unwillingness.csv", "withdrawn.jsonl", "withdraw.json"
DATASET_FILE, PREPROCESS_FILE = "dataset.json", "preprocess.json"
DISCLOSURE_FILE, DISCLOSURE_PLOT = "disclosure.csv", "disclosure.png"

TEXT_IDS, TIME_UNIT = "text_ids", "timestamp"  # keys of dataset.json: columns of ids that are text; the unit of times
READER = "reader"  # key of dataset.json: digests of the code that made the tables; none are of data by hand
HOLDOUT = "holdout"  # key of dataset.json in a masked dataset: interactions that are held out of each user
UPDATED = "updated"  # key of dataset.json: how many rows at the end of ratings.csv updates have added
DRAWN = "unwillingness_drawn"  # key of dataset.json: whether an update has written down what had been drawn until then
MASK_SETTINGS = "mask_settings"  # key of dataset.json in a masked dataset: the options that the mask depends on
USER, ITEM, RATING, TIMESTAMP = "user_id", "item_id", "rating", "timestamp"
GENRE, GENRES = "genre", "genres"  # one of an item's genres, as rules name it; all of them, joined by "|"
SINCE, UNTIL = "since", "until"  # of a rule: it means since <= timestamp < until
TITLE = "title"
UNWILLINGNESS, INFLUENCE, EXPECTED, DISCLOSED = "unwillingness", "influence", "expected_influence", "disclosed"
INTERACTIONS = "interactions"  # column of users.csv
REASON = "reason"  # column of disclosure.csv: by what an interaction was decided, or why it takes no part
INSTALMENT = "instalment"  # column of disclosure.csv: in which an interaction was disclosed, from 1; 0 if it was not
RATING_COLUMNS = [USER, ITEM, RATING, TIMESTAMP]
MOVIE_COLUMNS = [ITEM, TITLE, GENRES]

MODELS = {"ncf": "NCF", "mf": "MF", "lightgcn": "LightGCN"}  # base models: option, and the name of the plain model
MASKED_MODEL, MASKED_PREFIX, SIMULATION = "IFRQE", "masked_", "simulation"
EARLIER = {"model": "ncf", "gcn_layers": 3, "ranks": 1, "compiled": False, "min_steps": 0}  # where not recorded
STUDY_SEEDS = 3  # of a study, if --seeds names none


def train_file(model: str) -> str:
    return f"train_{model.lower()}.json"


def eval_file(model: str) -> str:
    return f"eval_{model.lower()}.json"


def users_file(model: str) -> str:
    return f"eval_{model.lower()}_users.csv"
