"""From the influence on one validation item to what is expected of the items that come next, of which it is a single sample.

One step back in time both sides are known: the influence on the validation item is regressed, over all users, on those on
the items before it. No test item is looked at. See docs/maths.md, section 4.
"""
import numpy as np

from ..common.share import here
from ..stat_utils import parts

LEAST = 100  # interactions: from fewer, no regression is fitted
PART = 10_000_000  # interactions that are summed up at a time
DENSE = 40  # interactions an item from which on nothing is shrunk


def target_items(dataset, lags):
    """(num_users, 1 + lags) int32: each user's validation item, then the last items of their history, latest first.

    Without validation items the last of the history is the first. Where a history is too short, the validation item stands
    in; expected_influence does not read it there.
    """
    back, latest = _later(dataset) + 1, np.zeros(dataset.num_users, np.int32)  # who has no interactions is not asked about
    if dataset.validation is not None:
        latest = np.maximum(dataset.validation, 0)
    latest[dataset.user[back == 0]] = dataset.item[back == 0]
    targets, near = np.tile(latest[:, None], 1 + lags), back <= lags
    targets[dataset.user[near], back[near]] = dataset.item[near]
    return targets


def on_validation(influence, dataset):
    """(n,) of the influences on the items of `target_items` that on the validation item, 0 of whom nothing is known.

    Of what stands in for a validation item it is that on the item before.
    """
    found = influence[:, 0].copy()
    if (last := dataset.yardstick).any():
        found[last] = influence[last, 1]
    found[~dataset.informed] = 0
    return found


def _later(dataset):
    """(n,) how many interactions of the history come after each; without validation items -1 for the last."""
    return dataset.history.from_end - (dataset.validation is None)


def expected_influence(influence, dataset, fit=True):
    """Predicts the influence on the next item from those on the items before.

    influence: (n, 1 + lags) influences on the items of `target_items`, in the order of dataset.user.
    fit: whether to fit a regression to the influences of all users; else all 1 + lags weigh the same.
    Returns expected: (n,) float64, nats, positive = disclosing is expected to help the user; report: dict, per number of
        lags the slopes (latest item first) and the intercept of the regression, the scales that influences are multiplied by
        before, and the correlation of what it predicts with the influence on the validation item; empty with too few
        interactions or no lags: `expected` is then the influence on the validation item.
    """
    influence = np.asarray(influence, np.float64)
    if not fit:
        report = {str(n): {"slopes": [1 / n] * n, "intercept": 0.0, "scale": [1.0] * n}
                  for n in range(1, 1 + influence.shape[1])}
        return expected_by(report, influence, dataset), report
    report, later, total = {}, _later(dataset), here().total
    for lags in range(1, influence.shape[1]):
        # the others are, or come after, one of the items whose losses are looked at
        number = int(total((later >= lags).sum()))
        if number < LEAST:
            break
        mean = total(sum(known.sum(0) for known in _known(influence, later, lags))) / number
        away = (np.subtract(known, mean, known) for known in _known(influence, later, lags))
        moments = total(sum(part.T @ part for part in away)) / number
        spread = np.sqrt(np.diag(moments))
        if not (spread > 0).all():
            break
        scale = spread[0] / spread[1:]
        inner, outer = moments[1:, 1:] * np.outer(scale, scale), moments[0, 1:] * scale
        slopes = np.maximum(np.linalg.lstsq(inner, outer, rcond=None)[0], 0)  # an influence is no evidence of its opposite
        fitted = slopes @ inner @ slopes  # variance of what is predicted
        report[str(lags)] = {"slopes": slopes.tolist(), "intercept": float(mean[0] - slopes @ (mean[1:] * scale)),
                             "scale": [1.0, *scale[:-1].tolist()],
                             "correlation": float(slopes @ outer / np.sqrt(fitted * moments[0, 0])) if fitted > 0 else 0.0}
    return expected_by(report, influence, dataset), report


def _known(influence, later, lags):
    """Part by part, at least one, the influences on 1 + lags items of what so many others of its user come after."""
    for part in parts(max(1, len(influence)), PART):
        yield influence[part][later[part] >= lags, :1 + lags]


def expected_by(report, influence, dataset):
    """What a regression that was fitted before, perhaps on other users, expects of the next item; see expected_influence.

    An interaction goes by its influences on items after it; one that stands in for a validation item by those on items
    before it.
    `influence`: (n, lags) or more columns, which are not looked at. Returns (n,) float64, nats.
    """
    number, last, columns = _later(dataset) + 1, dataset.yardstick, influence.shape[1]
    if columns > 1:
        number[last] = np.minimum(dataset.history.length[dataset.user[last]], columns) - 1
    expected = np.empty(len(influence))
    for part in parts(len(expected)):
        known = np.asarray(influence[part], np.float64)
        if columns > 1 and last[part].any():
            known = np.where(last[part, None], np.roll(known, -1, 1), known)
        found = known[:, 0].copy()
        for lags, fitted in report.items():  # from few to many
            slopes, usable = np.array(fitted["slopes"]), number[part] >= int(lags)
            found[usable] = known[usable, :len(slopes)] * np.array(fitted["scale"]) @ slopes + fitted["intercept"]
        expected[part] = found
    return expected


def per_item(dataset):
    """How many training interactions the items have, on average, that have any."""
    occur = here().total(np.bincount(dataset.item, minlength=dataset.num_items)) > 0
    return dataset.all_interactions / max(1, int(occur.sum()))


def default_shrinkage(dataset):
    """How far to shrink if nothing is said: the sparser the items, the further. See docs/maths.md, section 4.

    Each interaction also trains the row of its item, the more the fewer it has; no influence on its user's row holds that.
    """
    return max(0.0, 1 - per_item(dataset) / DENSE)


def shrunk(expected, shrinkage, mean):
    """(n,) expected influences, shrunk towards their mean, which stands for what a disclosure does for everyone.

    `shrinkage`: in [0, 1]; at 1 the game discloses in the order of unwillingness. `mean`: of those that the game was played
    with, in nats; if negative, 0 is taken.
    """
    return (1 - shrinkage) * expected + shrinkage * max(mean, 0.0)
