"""The users' pages of report.html: data of a sample of users, and the rule of the game that the page applies to them."""
import base64

import numpy as np

from ..common.variant import Variant
from ..consent.allowed import NONE_DROPPED, VETO
from ..constants import MASKED_MODEL
from ..evaluation.explain import Rule
from ..evaluation.personal import load_serving
from ..evaluation.recommend import top_items
from ..stat_utils import generator
from .live import SIZES, live_lists

LONGEST_TITLE = 200  # signs
MOST_INTERACTIONS = 60_000  # of all users in the page together: about 2 MB
STEPS = 100  # of the slider


def users_page(results, config):
    """What the page holds: a dict that JSON can hold; None without users.

    Under a veto, what is vetoed is left out unless report_vetoed says otherwise: the report is made to be passed on. So is
    every test item, since rules may reach it, and to leave out some would tell which.

    Ids are text, since a browser's numbers have 53 bits. Columns of interactions are base64 of little-endian arrays, so that
    the page computes with the same numbers.
    """
    dataset, decisions = results.dataset, results.decisions
    users = sample_users(dataset, config)
    if not len(users):
        return None
    asked = results.records.get("preprocess", {}).get("all_settings", {}).get("veto")
    hide = bool(config.veto or asked or decisions.under_veto) and not config.report_vetoed
    parts = [slice(*np.searchsorted(dataset.user, [user, user + 1])) for user in users]
    gone = dataset.dropped or NONE_DROPPED
    gone = gone.of(gone.why == (None if hide else VETO))
    vetoed = [gone.item[slice(*np.searchsorted(gone.user, [user, user + 1]))] for user in users]
    rule, shares = Rule(decisions), [k / STEPS for k in range(STEPS + 1)]
    slider = rule.played and decisions.unwillingness.sum() > 0
    lists, live = {}, []
    for model, found in results.models.items():
        if found.recommends:
            as_evaluated = bool(found.record.get("personal"))
            serving = load_serving(dataset, Variant(config, model == MASKED_MODEL), as_evaluated)
            lists[model] = top_items(serving.net, users, dataset, results.top_k, config.eval_batch_size)
            if model == MASKED_MODEL and slider:
                live = live_lists(users, dataset, decisions, serving, results.top_k, config)
    shown = [*(dataset.item[part] for part in parts), *vetoed, *(items for found in lists.values() for items, _ in found)]
    shown += [items for found in live for items in found]
    if not hide:
        shown.append(dataset.test[users])
    items = np.unique(np.concatenate(shown))  # the page has positions in these
    pages = []
    place = np.searchsorted(dataset.scored, users)  # in the results by user
    for k, (user, part) in enumerate(zip(users, parts)):
        own = np.concatenate([dataset.item[part], vetoed[k]])

        def column(values, of_vetoed, kind, part=part, gone=vetoed[k]):
            return packed(np.concatenate([values[part], np.full(len(gone), of_vetoed)]), kind)
        page = {"id": str(dataset.user_ids[user]), "items": packed(np.searchsorted(items, own), "<u4"),
                "unwillingness": column(decisions.unwillingness, 1, "<f8"),
                "disclosed": column(decisions.disclosed, 0, "<u1"),
                "next": None if hide else int(np.searchsorted(items, dataset.test[user])),
                "ranks": {model: int(found.users["rank"].iloc[place[k]]) + 1 for model, found in results.models.items()},
                "lists": {model: _scored(items, *found[k]) for model, found in lists.items()}}
        if rule.played:
            page["influence"] = column(decisions.influence, 0, "<f4")
            page["expected"] = column(decisions.expected, 0, "<f8")
        if k < len(live):  # from the smallest selection to the largest, then of all that may be selected
            page["live"] = [np.searchsorted(items, found).tolist() for found in live[k]]
        pages.append(page)
    return {"played": rule.played, "veto": decisions.under_veto, "left_out": hide,
            "num_live": len(live), "sizes": SIZES, "otherwise": rule.otherwise,
            "sentences": rule.sentences, "weight": rule.weight, "critical": rule.critical, "num_users": dataset.num_users,
            "num_candidates": next(iter(results.models.values())).record["num_candidates"],
            "prices": rule.prices(decisions, shares) if slider else None,
            "share": decisions.wv_share if slider else None,
            "agreement": rule.agreement(decisions) if rule.played else None,
            "items": [[str(dataset.item_ids[i]), *(results.catalogue[column][i][:LONGEST_TITLE]
                                                   for column in ("title", "genres"))] for i in items], "users": pages}


def _scored(items, chosen, scores):
    """What top_items found for a user, as a list of [position in `items`, score]."""
    return [[int(i), round(float(score), 4)] for i, score in zip(np.searchsorted(items, chosen), scores)]


def sample_users(dataset, config):
    """(u,) positions, ascending, of users drawn by seed: report_users, or fewer if they have too many interactions.

    Who takes no part in the run is not among them.
    """
    drawn = generator(config.seed, "report users").permutation(dataset.num_users)
    drawn = drawn[dataset.test[drawn] >= 0][:config.report_users]
    length = np.bincount(dataset.user, minlength=dataset.num_users)
    return np.sort(drawn[np.cumsum(length[drawn]) <= MOST_INTERACTIONS])


def packed(values, kind):
    """Base64 of an array as numbers of a NumPy type."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()
