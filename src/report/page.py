"""The report of a run: report.html, one file that needs no network.

It is made of what the stages have left under output_path; what is missing, or belongs to other data or settings than the
evaluation, is left out and named.
"""
import time
from pathlib import Path

from .. import __version__
from ..common.figures import spared
from ..common.files import write_text
from ..common.plugins import plugin_files
from ..common.stage import Stage
from ..common.terminal import logger, progress
from ..common.variant import dataset_files
from ..device_adapter import set_device
from .results import files_of_run, read_results
from .sections import SECTIONS
from .users import users_page

_TEMPLATES = Path(__file__).with_name("templates")

HTML = "report.html"


def write_report(variant, read=None):
    """Writes report.html under output_path; skipped if it is there for the same results.

    variant: the Variant whose evaluation counts where those of both do not fit together.
    read: what evaluate has returned, so that it is not read again.
    Raises InputError: a result is damaged; the message names the file.
    """
    config, output = variant.config, Path(variant.config.output_path)
    if config.ranks > 1:
        logger.info("%s: needs the data of all users: the same command without --ranks writes it, and scores nothing anew",
                    output / HTML)
        return
    inputs = dataset_files(config) + plugin_files(config.model) + files_of_run(config)
    inputs += sorted(path for path in _TEMPLATES.glob("[!.]*") if path.is_file())
    device = set_device(config)
    stage = Stage("report", __name__, config, ("report", "model", "unwillingness", "randomness", "split"), inputs,
                  [output / HTML], device)
    if stage.is_done():
        return
    start = time.perf_counter()
    with spared(output / HTML, "report"), progress(len(SECTIONS) + 2, "report", "part") as bar:
        results = read_results(variant, read)
        bar.update()
        if not results.models:
            return
        sections = []
        for name, title, blocks_of in SECTIONS:
            if blocks := blocks_of(results, config):
                sections.append({"id": name, "title": title, "blocks": blocks})
            bar.update()
        page = users_page(results, config) if results.decisions is not None else None
        bar.update()
        write_text(output / HTML, environment().get_template("report.html").render(
            title=f"{results.dataset.name}: " + " and ".join(results.models), sections=sections, page=page,
            version=__version__, made=time.strftime("%Y-%m-%d %H:%M")))
        stage.finish()
        logger.info("report written to %s (%.1f MB, %.1f s)", output / HTML, (output / HTML).stat().st_size / 1e6,
                    time.perf_counter() - start)


def environment():
    """The templates of the report and of receipts, which escape what they are given."""
    import jinja2
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), trim_blocks=True, lstrip_blocks=True,
                                     keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    return environment
