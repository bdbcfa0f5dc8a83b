"""Recommenders that had no part in a mask and judge it: item-kNN, ALS and BPR of the package `implicit`, and EASE.

A judge is trained on the disclosed interactions alone and scores all items. What it is set to is chosen once for a dataset,
on the validation items with everything disclosed; no test item is looked at. Base models of this program judge as well,
retrained from scratch with the training options.
"""
import importlib
import warnings

import numpy as np

from src.config import shipped

ITEM_KNN, EASE, ALS, BPR = "item-knn", "ease", "als", "bpr"
MOST_ITEMS = 15_000  # for EASE, whose matrices hold all pairs of items
PACKAGE = "implicit"
PARTS = {ITEM_KNN: f"{PACKAGE}.nearest_neighbours", ALS: f"{PACKAGE}.als", BPR: f"{PACKAGE}.bpr"}  # modules of judges

# What a judge may be set to, the more usual first: of equals the first is chosen.
GRIDS = {
    ITEM_KNN: [{"K": k} for k in (100, 20, 50, 200)],
    EASE: [{"ridge": ridge} for ridge in (250.0, 100.0, 500.0, 1000.0)],
    ALS: [{"factors": factors, "alpha": alpha, "regularization": 0.1, "iterations": 15}
          for factors in (64, 32) for alpha in (1.0, 10.0)],
    BPR: [{"factors": 64, "learning_rate": rate, "regularization": 0.01, "iterations": 100} for rate in (0.01, 0.05)],
}


def base_model(judge, config):
    """Settings of a base model as a judge: the training options for the one that decides, else the recipe of its name."""
    recipe = {} if judge == config.model else shipped()[1].get(judge) or {}
    return config.replace(model=judge, **recipe)


def reason_against(judge, num_items):
    """Why a judge, of GRIDS or MODELS, cannot judge a dataset of so many items; "" if it can."""
    if judge == EASE and num_items > MOST_ITEMS:
        return (f"{num_items:,} items are more than {MOST_ITEMS:,}: a matrix of all their pairs takes "
                f"{8e-9 * num_items ** 2:.1f} GB")
    if judge in PARTS:
        try:
            importlib.import_module(PARTS[judge])
        except (Exception, SystemExit) as e:  # it is not installed, was built for another NumPy, lacks a library
            return f"the package {PACKAGE} does not serve ({e!r}); mend that with: pip install {PACKAGE}"
    return ""


def version_of(judge):
    """The version of the package that a judge is of; None for those of this program."""
    return importlib.import_module(PACKAGE).__version__ if judge in PARTS else None


def matrix_of(part):
    """The training interactions of a Dataset as a (num_users, num_items) sparse matrix of ones, float32."""
    from scipy import sparse
    shape = part.num_users, part.num_items
    return sparse.csr_matrix((np.ones(part.num_interactions, np.float32), (part.user, part.item)), shape)


def ease_weights(matrix, ridge):
    """EASE in closed form: W with zeros on its diagonal that minimises |X - X W|^2 + ridge |W|^2.

    With P the inverse of X^T X + ridge I, W_ij = -P_ij / P_jj off the diagonal (Steck, arXiv:1905.03375, eq. 8).

    Args:
        matrix: X, (num_users, num_items) sparse.

    Returns:
        (num_items, num_items) float64; the scores are X W.
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
    """Trains a judge of GRIDS, set to one of its settings there, on what matrix_of gives.

    Returns:
        A function of (c,) int users to their (c, num_items) scores.
    """
    if judge == EASE:
        weights = np.ascontiguousarray(ease_weights(matrix, **setting), np.float32)
        return lambda users: matrix[users] @ weights
    from threadpoolctl import threadpool_limits
    # as `implicit` asks for, which has threads of its own; it warns of formats that it has made itself
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(PARTS[judge])
        if judge == ITEM_KNN:
            model = module.CosineRecommender(**setting)
            model.fit(matrix, show_progress=False)
            return lambda users: (matrix[users] @ model.similarity).toarray()
        if judge == ALS:
            model = module.AlternatingLeastSquares(random_state=seed, use_gpu=False, **setting)
        else:  # in one thread: several write each other's factors, in an order that no seed decides
            model = module.BayesianPersonalizedRanking(random_state=seed, use_gpu=False, num_threads=1, **setting)
        model.fit(matrix, show_progress=False)
    return lambda users: model.user_factors[users] @ model.item_factors.T


def in_chunks(scores, num_users, num_items, batch_size):
    """Yields users and their scores, a few users at a time: at most `batch_size` pairs, but at least one user."""
    size = max(1, batch_size // num_items)
    for start in range(0, num_users, size):
        users = np.arange(start, min(start + size, num_users))
        yield users, scores(users)
