"""What users who were in no training should disclose, and what the model would recommend to them.

What an update would decide (see game/arriving.py), shown and not written. See docs/method.md, "A newcomer".
"""
import numpy as np

from ..common.errors import InputError
from ..common.terminal import counted, logger, off_the_record
from ..common.variant import Variant, check_mask, dataset_folder, record_of
from ..config import Config
from ..consent.allowed import VETO
from ..consent.arrivals import Arrivals, read_arrivals
from ..constants import USER
from ..dataset import load_dataset, split_allowed
from ..device_adapter import set_device
from ..game.arriving import Arriving, Known, decide, left_of, sets_to_decide_by, usable, with_rows
from ..game.decisions import barred_by, dataset_of
from ..network import build
from ..options import options_of
from ..sources.catalogue import load_catalogue
from ..training.checkpoint import BEST
from .explain import Explanations, of_user
from .recommend import as_records, top_items


@off_the_record()
def newcomers(variant: Variant) -> None:
    """Shows what the users of the file `newcomers` should disclose, why, and what the model of a Variant recommends to them.

    Raises InputError: the file is missing or unfit, or there is no model, or no price to decide at.
    """
    # the file may state unwillingness otherwise than the run that made the masked dataset
    config = variant.config
    sources = {key: source for key, source in config.sources.items() if key not in options_of("unwillingness")}
    config, record = usable(Config(config.as_dict(), sources))
    variant = Variant(config, variant.masked)
    if variant.masked:
        check_mask(config)
    known = load_dataset(variant.settings(), masked=True) if variant.masked else dataset_of(variant)
    veto, made = config.veto or record.get("veto", record["vetoed"] > 0), record_of(dataset_folder(config))
    arrivals = read_arrivals("newcomers", known, config.replace(veto=veto), made)
    people = arriving_of(arrivals, veto)
    device = set_device(config)
    model = Known(variant, known)
    model.check_fit(record)
    dataset, catalogue = people.dataset, load_catalogue(known, config)
    logger.info("newcomers to %s (%s): %s interactions of %s", config.dataset, device, f"{len(arrivals.table):,}",
                counted(dataset.num_users, "user"))
    total, spent = record["total_wv"] * record["num_users"], record["wv"] * record["num_users"]
    left = left_of(record, total + people.unwillingness.sum(), spent)
    decisions = decide(people, model.rows, sets_to_decide_by(model.sets, model.info, record), record, left)
    decisions.barred = barred_by(dataset.dropped, {})
    lists = {}
    for name, part in zip(Advice.headings, (dataset, dataset.part(decisions.disclosed))):
        served = build(dataset, config)
        served.set_values(with_rows(model.rows, model.sets[BEST], people.place, part))
        lists[name] = top_items(served, np.arange(dataset.num_users), dataset, config.top_k, config.eval_batch_size)
    place = {str(name): k for k, name in enumerate(dataset.user_ids)}
    answers = [{**of_user(k, dataset, decisions, catalogue), "recommended": {
        name: as_records(found[k], dataset, catalogue) for name, found in lists.items()}}
        for k in map(place.get, dict.fromkeys(arrivals.table[USER]))]
    Advice(model=variant.model, dataset=config.dataset, users=answers).show(config.format)


class Advice(Explanations):
    """Explanations of what newcomers should disclose, with recommendations from all that they know, and from that alone."""
    headings = {"known": "from all that they know themselves", "disclosed": "from what they disclose"}


def arriving_of(arrivals: Arrivals, veto: bool) -> Arriving:
    """Newcomers as Arriving; with `veto` unwillingness 1 keeps out of all use; InputError if nothing is left."""
    b = arrivals.unwillingness
    dataset = split_allowed(arrivals.whole, 0, np.where((b == 1) & veto, VETO, 0)[arrivals.whole.rows])
    if not dataset.num_interactions:
        raise InputError("--newcomers: no interaction of theirs counts, with an item that is known and not vetoed")
    n = dataset.num_interactions
    return Arriving(dataset, np.ones(n, bool), np.zeros(n, bool), b[dataset.rows], np.full(dataset.num_users, -1))
