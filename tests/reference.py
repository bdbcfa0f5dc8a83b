"""An independent NCF in NumPy (float64) and finite differences, to compare with."""
import numpy as np


def logits(values, user_row, items):
    """Logit of each of `items` (n,) for a user whose embedding row (GMF part, then MLP part) is user_row, (d,) or (n, d)."""
    f = values["item_gmf"].shape[1]
    p, r = user_row[..., :f], user_row[..., f:]
    q, t = values["item_gmf"][items], values["item_mlp"][items]
    z = np.concatenate([np.broadcast_to(r, (len(items), r.shape[-1])), t], axis=1)
    z = z @ np.concatenate([values["head.user_weight"], values["head.item_weight"]], axis=1).T + values["head.first_bias"]
    k = 2
    while f"head.weight_{k}" in values:
        z = np.maximum(z, 0) @ values[f"head.weight_{k}"].T + values[f"head.bias_{k}"]
        k += 1
    if "head.out_weight" in values:
        z = np.maximum(z, 0) @ values["head.out_weight"].T + values["head.out_bias"]
    return (p * q) @ values["head.gmf_weight"] + z[:, 0]


def user_row(values, user):
    return np.concatenate([values["user_gmf"][user], values["user_mlp"][user]], axis=-1)


def cross_entropy(logit, label):
    return np.logaddexp(0, np.where(label == 1, -logit, logit))


def gradient(function, x, step=1e-5):
    """Central differences of a scalar function."""
    return np.array([(function(x + e) - function(x - e)) / (2 * step) for e in step * np.eye(len(x))])


def hessian(function, x, step=1e-4):
    """Second differences of a scalar function."""
    steps, second = step * np.eye(len(x)), np.zeros((len(x), len(x)))
    for j, a in enumerate(steps):
        for k, b in enumerate(steps[:j + 1]):
            found = function(x + a + b) - function(x + a - b) - function(x - a + b) + function(x - a - b)
            second[j, k] = second[k, j] = found / (4 * step ** 2)
    return second


def pack(values):
    """All parameters as one vector."""
    return np.concatenate([values[name].ravel() for name in values]).astype(float)


def unpack(vector, values):
    """The inverse of pack; shapes and names are those of `values`."""
    ends = np.cumsum([values[name].size for name in values])
    return {name: part.reshape(values[name].shape) for name, part in zip(values, np.split(vector, ends[:-1]))}


def losses(values, users, items, labels):
    """(n,) cross-entropies of samples."""
    return cross_entropy(logits(values, user_row(values, users), np.asarray(items)), np.asarray(labels))
