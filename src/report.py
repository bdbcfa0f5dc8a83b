"""The report of a run: report.html, one file that needs no network, and report.md with the same figures.

It is made of what the stages have left under output_path; what is missing, or belongs to other data or settings than the
evaluation, is left out and named.
"""
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from . import __version__
from .constants import (
    DISCLOSURE_FILE,
    MASKED_MODEL,
    PLAIN_MODEL,
    TRADEOFF_FILE,
    checkpoint_file,
    eval_file,
    train_file,
    users_file,
)
from .dataset import dataset_files, load_catalogue, load_dataset
from .decisions import decision_files, read_decisions
from .device_adapter import set_device
from .evaluation import evaluate, not_comparable
from .explanation import explain
from .recommendation import recommend
from .repeats import over_seeds
from .report_sections import SECTIONS
from .report_users import users_page
from .stage import Stage, digest, read_json, write_text
from .terminal import progress

logger = logging.getLogger("ifrqe")

HTML, MARKDOWN = "report.html", "report.md"


def answer(config):
    """What eval.py does: evaluation and report, or recommendations, or the explanation of a user."""
    if config.recommend:
        recommend(config)
    elif config.explain_user:
        explain(config)
    else:
        over_seeds(evaluate_and_report, eval_file)(config)


def evaluate_and_report(config):
    """Evaluates (see evaluation.evaluate), then writes report.html and report.md, of both models if both are there."""
    evaluate(config)
    write_report(config)


@dataclass
class Results:
    """What the stages have left that belongs to one dataset.

    evaluations: dict of model to the record of its evaluation.
    users: dict of model to the DataFrame of its evaluation by user.
    trainings: dict of model to the record of its training.
    decisions: Decisions, or None.
    tradeoff: DataFrame of the trade-off study, or None.
    dataset: Dataset.
    catalogue: DataFrame, see load_catalogue.
    records: dict of stage to its record of settings.
    left_out: list of what is there but does not belong to it.
    """
    evaluations: dict
    users: dict
    trainings: dict
    decisions: object
    tradeoff: pd.DataFrame
    dataset: object
    catalogue: pd.DataFrame
    records: dict
    left_out: list


def write_report(config):
    """Writes report.html and report.md under output_path; skipped if they are there for the same results.

    Raises:
        InputError: a result is damaged; the message names the file.
    """
    output = Path(config.output_path)
    both = (PLAIN_MODEL, MASKED_MODEL)
    names = [f(model) for f in (eval_file, users_file, train_file) for model in both]
    inputs = dataset_files(config) + [path for path in [*(output / name for name in (*names, TRADEOFF_FILE)),
                                                        *decision_files(config)] if path.is_file()]
    checkpoints = [Path(config.checkpoint_path) / checkpoint_file(model) for model in both]
    inputs += [path for path in checkpoints if path.is_file()]
    config = config.replace(masked=False)
    stage = Stage("report", config, ("report_users", "seed", "top_k"), inputs, [output / HTML, output / MARKDOWN])
    if stage.is_done():
        return
    start = time.perf_counter()
    with progress(len(SECTIONS) + 2, "report", "part") as bar:
        results = read_results(config)
        bar.update()
        if not results.evaluations:
            return
        sections = []
        for name, title, blocks_of in SECTIONS:
            if blocks := blocks_of(results, config):
                sections.append({"id": name, "title": title, "blocks": blocks})
            bar.update()
        set_device(config)
        page = users_page(results, config) if results.decisions is not None else None
        bar.update()
    environment = _environment()
    content = {"title": f"{results.dataset.name}: " + " and ".join(results.evaluations), "sections": sections, "page": page,
               "version": __version__, "made": time.strftime("%Y-%m-%d %H:%M")}
    write_text(output / HTML, environment.get_template("report.html").render(**content))
    write_text(output / MARKDOWN, environment.get_template("report.md").render(**content))
    stage.finish()
    logger.info("report written to %s and %s (%.1f MB, %.1f s)", output / HTML, output / MARKDOWN,
                (output / HTML).stat().st_size / 1e6, time.perf_counter() - start)


def _environment():
    import jinja2
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")), trim_blocks=True,
                                     lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
                                     autoescape=lambda name: name.endswith(".html"))
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    return environment


def read_results(config):
    """Results of the dataset that the settings name."""
    output, remedy = Path(config.output_path), "remove it, and run the stage that writes it again"
    left_out, evaluations, users, trainings = [], {}, {}, {}

    def read(path):
        record = read_json(path, remedy) if path.is_file() else None
        if record is not None and (record.get("dataset") != config.dataset or "seeds" in record):
            left_out.append(f"{path.name} (of {record.get('dataset')}{', several seeds' * ('seeds' in record)})")
            return None
        return record

    for model in (PLAIN_MODEL, MASKED_MODEL):
        if (record := read(output / eval_file(model))) is not None and (output / users_file(model)).is_file():
            evaluations[model], users[model] = record, pd.read_csv(output / users_file(model))
        if (record := read(output / train_file(model))) is not None:
            trainings[model] = record
    dataset = load_dataset(config)
    decisions = read_decisions(config, dataset) if config.holdout > 1 else None
    made = {model: Stage.read_record(output, f"eval_{model.lower()}").get("inputs", {}) for model in evaluations}
    if MASKED_MODEL in evaluations and decisions is not None \
            and made[MASKED_MODEL].get(DISCLOSURE_FILE) != digest(decision_files(config)[0]):
        left_out.append(f"{eval_file(MASKED_MODEL)} (of another mask: run train.py --masked, then eval.py --masked)")
        del evaluations[MASKED_MODEL], users[MASKED_MODEL]
    for model in [m for m in trainings if m in evaluations]:
        trained = Stage.read_record(output, f"train_{model.lower()}").get("outputs", {})
        if trained.get(checkpoint_file(model)) != made[model].get(checkpoint_file(model)):
            left_out.append(f"{train_file(model)} (of another model than was evaluated)")
            del trainings[model]
    if len(evaluations) == 2 and (differing := not_comparable(evaluations[MASKED_MODEL], evaluations[PLAIN_MODEL])):
        left_out.append(f"{eval_file(MASKED_MODEL)} (of other data or settings: {differing})")
        del evaluations[MASKED_MODEL], users[MASKED_MODEL]
    trained = {f"train_{model.lower()}": model for model in (PLAIN_MODEL, MASKED_MODEL)}
    records = {name: Stage.read_record(output, name) for name in ("preprocess", *trained, "tradeoff")}
    records = {name: record for name, record in records.items() if record.get("dataset") == config.dataset
               and (name not in trained or trained[name] in trainings)}
    tradeoff = None
    if (output / TRADEOFF_FILE).is_file():
        if records.get("tradeoff", {}).get("outputs", {}).get(TRADEOFF_FILE) == digest(output / TRADEOFF_FILE):
            tradeoff = pd.read_csv(output / TRADEOFF_FILE)
        else:
            left_out.append(f"{TRADEOFF_FILE} (of another dataset, or of an unfinished study)")
    return Results(evaluations, users, trainings, decisions, tradeoff, dataset, load_catalogue(dataset, config), records,
                   left_out)

