"""The users' pages of report.html: data of a sample of users, and the rule of the game that the page applies to them."""
import base64

import numpy as np

from ..common.variant import Variant
from ..consent.allowed import NONE_DROPPED, VETO
from ..constants import MASKED_MODEL
from ..evaluation.personal import load_serving
from ..evaluation.recommend import top_items
from ..game.rule import UNKNOWN, Rule
from ..history import History
from ..stat_utils import generator
from .live import SIZES, live_lists

LONGEST_TITLE = 200  # signs
MOST_INTERACTIONS = 60_000  # of all users in the page together: about 2 MB
STEPS = 100  # of the slider


def users_page(results, config):
    """What the page holds: a dict that JSON can hold; None without users.

    Under a veto, what is vetoed is left out unless report_vetoed says otherwise: the report is made to be passed on. So is
    every test item, since rules may reach it, and to leave out some would tell which.
    Ids are text, since a browser's numbers have 53 bits; columns of interactions are base64 of little-endian arrays.
    """
    dataset, decisions = results.dataset, results.decisions
    users = sample_users(dataset, config)
    if not len(users):
        return None
    asked = results.records.get("preprocess", {}).get("all_settings", {}).get("veto")
    hide = bool(config.veto or asked or decisions.under_veto) and not config.report_vetoed
    gone = dataset.dropped or NONE_DROPPED
    gone = gone.of(gone.why == (None if hide else VETO))
    vetoed = History(gone.user, dataset.num_users)
    rule, shares = Rule(decisions), [k / STEPS for k in range(STEPS + 1)]
    slider = rule.played and decisions.unwillingness.sum() > 0
    lists, live = _lists(results, users, slider, config)
    own = [np.concatenate([dataset.item[dataset.history.of(user)], gone.item[vetoed.of(user)]]) for user in users]
    shown = [*own, *(items for found in lists.values() for items, _ in found), *(items for found in live for items in found)]
    shown += [] if (hide_next := hide or not config.holdout) else [dataset.test[users]]
    items = np.unique(np.concatenate(shown))  # the page has positions in these
    pages = []
    for k, (user, place) in enumerate(zip(users, np.searchsorted(dataset.scored, users))):  # in the results by user
        page = {"id": str(dataset.user_ids[user]), "items": packed(np.searchsorted(items, own[k]), "<u4"),
                **_columns(decisions, rule, dataset.history.of(user), vetoed.length[user]),
                "alone": decisions.alone(dataset.history.of(user)),
                "next": None if hide_next else int(np.searchsorted(items, dataset.test[user])),
                "ranks": {model: int(found.users["rank"].iloc[place]) + 1 for model, found in results.models.items()
                          if found.record},
                "lists": {model: [[int(np.searchsorted(items, i)), round(float(score), 4)] for i, score in zip(*found[k])]
                          for model, found in lists.items()}}
        if k < len(live):  # from the smallest selection to the largest, then of all that may be selected
            page["live"] = [np.searchsorted(items, found).tolist() for found in live[k]]
        pages.append(page)
    return {"played": rule.played, "veto": decisions.under_veto, "left_out": hide, "num_live": len(live), "sizes": SIZES,
            "otherwise": rule.otherwise, "unknown": UNKNOWN, "sentences": rule.sentences, "weight": rule.weight,
            "critical": rule.critical, "num_users": dataset.num_users,
            "num_candidates": next(iter(results.models.values())).record.get("num_candidates"),
            "prices": rule.prices(decisions, shares) if slider else None, "share": decisions.wv_share if slider else None,
            "agreement": rule.agreement(decisions) if rule.played else None,
            "items": [[str(dataset.item_ids[i]), *(results.catalogue[column][i][:LONGEST_TITLE]
                                                   for column in ("title", "genres"))] for i in items], "users": pages}


def _lists(results, users, slider, config):
    """By model what top_items finds for the users, of models that recommend; and what live_lists finds, for the slider."""
    lists, live, k = {}, [], results.top_k or config.top_k
    for model, found in results.models.items():
        if found.recommends:
            variant = Variant(config, model == MASKED_MODEL)
            serving = load_serving(results.dataset, variant, bool(found.record.get("personal")))
            lists[model] = top_items(serving.net, users, results.dataset, k, config.eval_batch_size)
            if variant.masked and slider:
                live = live_lists(users, results.dataset, results.decisions, serving, k, config)
    return lists, live


def _columns(decisions, rule, part, vetoed):
    """The columns of a user's interactions: what was decided on, the slice `part`, and after it so many vetoed ones."""
    columns = {"unwillingness": (decisions.unwillingness, 1, "<f8"), "disclosed": (decisions.disclosed, 0, "<u1")}
    if rule.played:
        columns.update(influence=(decisions.influence, 0, "<f4"), expected=(decisions.expected, 0, "<f8"))
    return {name: packed(np.concatenate([values[part], np.full(vetoed, of_vetoed)]), kind)
            for name, (values, of_vetoed, kind) in columns.items()}


def sample_users(dataset, config):
    """(u,) positions, ascending, of users who take part, drawn by seed: report_users, or fewer of many interactions."""
    drawn = generator(config.seed, "report users").permutation(dataset.num_users)
    drawn = drawn[dataset.taking_part[drawn]][:config.report_users]
    return np.sort(drawn[np.cumsum(dataset.history.length[drawn]) <= MOST_INTERACTIONS])


def packed(values, kind):
    """Base64 of an array as numbers of a NumPy type."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()
