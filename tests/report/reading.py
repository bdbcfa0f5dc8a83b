"""Reading reports, and results of data of any size."""
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from src.common.variant import asked
from src.consent.allowed import VETO
from src.dataset import Dataset
from src.report.page import HTML
from src.report.results import Evaluated, read_results


def read(config):
    return (Path(config.output_path) / HTML).read_text()


def words(config):
    """What the report says without its pictures, a line for each heading, paragraph and row, with " | " between cells."""
    text = re.sub(r"<(script|style).*?</\1>", "", read(config), flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</t[hd]><t[hd][^>]*>", " | ", text)))


class Page(HTMLParser):
    """Tags, attributes, and text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.inside, self.data = [], [], None, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside is None:
            self.text.append(data)
        elif self.tags[-1][1].get("id") == "data":
            self.data += data


def data_of(config):
    return json.loads(Page(read(config)).data)


def simulated_results(finished_run, users, length, items):
    """Results with many users whose histories are long: only what users_page looks at."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users, dtype=np.int32), length)
    item = np.concatenate([rng.permutation(items)[:length] for _ in range(users)]).astype(np.int32)
    validation, test = (rng.integers(0, items, users).astype(np.int32) for _ in range(2))
    dataset = Dataset("large", np.arange(1, users + 1), np.arange(1, items + 1), user, item, np.arange(len(user)),
                      None, validation=validation, test=test, held_out=np.zeros((users, 2), int))
    results = read_results(asked(finished_run))
    n = len(user)
    results.dataset = dataset
    results.models = {"NCF": Evaluated(results.models["NCF"].record, pd.DataFrame({"rank": np.zeros(users, int)}))}
    results.catalogue = pd.DataFrame({"title": [f"A Title of the Usual Length {k} (1999)" for k in range(items)],
                                      "genres": "Drama|Romance|War"})
    for name in ("influence", "expected"):
        setattr(results.decisions, name, rng.normal(0, 0.01, n))
    results.decisions.unwillingness, results.decisions.disclosed = rng.random(n), rng.random(n) < 0.6
    return results


def vetoed_items(dataset, user):
    """(k,) positions of the items that the user at a position has vetoed."""
    gone = dataset.dropped
    return gone.item[(gone.user == user) & (gone.why == VETO)]
