"""Recommenders that had no part in a mask and judge it: item-kNN, ALS and BPR of the package `implicit`, and EASE.

A judge is trained on the disclosed interactions alone and scores all items. What it is set to is chosen once for a dataset,
on the validation items with everything disclosed; no test item is looked at. Base models judge as well, trained anew.
"""
import pkgutil
import warnings

import numpy as np

from src.config import shipped

ITEM_KNN, EASE, ALS, BPR = "item-knn", "ease", "als", "bpr"
MOST_ITEMS = 15_000  # for EASE, whose matrices hold all pairs of items
PACKAGE = "implicit"
PARTS = {ITEM_KNN: f"{PACKAGE}.nearest_neighbours:CosineRecommender", ALS: f"{PACKAGE}.als:AlternatingLeastSquares",
         BPR: f"{PACKAGE}.bpr:BayesianPersonalizedRanking"}  # what makes a judge

# What a judge may be set to, the more usual first: of equals the first is chosen.
GRIDS = {
    ITEM_KNN: [{"K": k} for k in (100, 20, 50, 200)],
    EASE: [{"ridge": ridge} for ridge in (250.0, 100.0, 500.0, 1000.0)],
    ALS: [{"factors": factors, "alpha": alpha, "regularization": 0.1, "iterations": 15}
          for factors in (64, 32) for alpha in (1.0, 10.0)],
    BPR: [{"factors": 64, "learning_rate": rate, "regularization": 0.01, "iterations": 100} for rate in (0.01, 0.05)],
}


def base_model(judge, config):
    """Settings of a base model: the training options for the one that --model names, else the recipe of its name."""
    return config.replace(model=judge, **({} if judge == config.model else shipped()[1].get(judge, {})))


def reason_against(judge, num_items):
    """Why a judge, of GRIDS or MODELS, cannot judge a dataset of so many items; "" if it can."""
    if judge == EASE and num_items > MOST_ITEMS:
        return f"{num_items:,} items are more than {MOST_ITEMS:,}: of all their pairs {8e-9 * num_items ** 2:.1f} GB"
    if judge in PARTS:
        try:
            pkgutil.resolve_name(PARTS[judge])
        except (Exception, SystemExit) as e:  # it is not installed, was built for another NumPy, lacks a library
            return f"the package {PACKAGE} does not serve ({e!r}); mend that with: pip install {PACKAGE}"
    return ""


def version_of(judge):
    """The version of the package that a judge is of; None for those of this program."""
    return pkgutil.resolve_name(f"{PACKAGE}:__version__") if judge in PARTS else None


def matrix_of(part):
    """The training interactions of a Dataset as a (num_users, num_items) sparse matrix of ones, float32."""
    from scipy import sparse
    shape = part.num_users, part.num_items
    return sparse.csr_matrix((np.ones(part.num_interactions, np.float32), (part.user, part.item)), shape)


def ease_weights(matrix, ridge):
    """EASE: (num_items, num_items) W with zeros on its diagonal that minimises |X - X W|^2 + ridge |W|^2; X is `matrix`.

    With P the inverse of X^T X + ridge I, W_ij = -P_ij / P_jj off the diagonal (Steck, arXiv:1905.03375, eq. 8).
    """
    from scipy.linalg import lapack
    gram = (matrix.T @ matrix).toarray(order="F").astype(np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    # in place, and a third of the operations of a general inverse; only the upper triangle is filled
    factor, _ = lapack.dpotrf(gram, overwrite_a=True)
    weights, _ = lapack.dpotri(factor, overwrite_c=True)
    for k in range(len(weights)):
        weights[k + 1:, k] = weights[k, k + 1:]
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0)
    return weights


def fitted(judge, matrix, seed, setting):
    """Trains a judge of GRIDS on what matrix_of gives: a function of (c,) int users to their (c, num_items) scores."""
    if judge == EASE:
        weights = np.ascontiguousarray(ease_weights(matrix, **setting), np.float32)
        return lambda users: matrix[users] @ weights
    from threadpoolctl import threadpool_limits
    # in one thread: several of BPR write each other's factors, in an order that no seed decides
    own = {} if judge == ITEM_KNN else {"random_state": seed, "use_gpu": False, "num_threads": 1}
    with threadpool_limits(1, "blas"), warnings.catch_warnings():  # `implicit` asks for it, and warns of its own formats
        warnings.simplefilter("ignore")
        model = pkgutil.resolve_name(PARTS[judge])(**setting, **own)
        model.fit(matrix, show_progress=False)
    if judge == ITEM_KNN:
        return lambda users: (matrix[users] @ model.similarity).toarray()
    return lambda users: model.user_factors[users] @ model.item_factors.T


def in_chunks(scores, num_users, num_items, batch_size):
    """Yields users and their scores, a few users at a time: at most `batch_size` pairs, but at least one user."""
    size = max(1, batch_size // num_items)
    for users in np.split(np.arange(num_users), range(size, num_users, size)):
        yield users, scores(users)
