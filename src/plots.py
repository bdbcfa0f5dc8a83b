"""Pictures of a run: learning curves, and what the mask decided."""
import numpy as np

from .stage import whole_file

POINTS = 20_000  # of a scatter: more make the file large and the picture no clearer
BLUE, ORANGE, GREY = "#3465a4", "#ce5c00", "#555753"


def _figure(columns):
    from matplotlib.figure import Figure  # without pyplot there is no display to set up and none to close
    figure = Figure(figsize=(5 * columns, 3.6), layout="constrained")
    return figure, [figure.add_subplot(1, columns, k + 1) for k in range(columns)]


def _save(figure, path):
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=100)


def learning_curve(path, history, metric, title, best_epoch, anchor_epoch):
    """Training loss, cross-entropy of the validation item and the validation metric by epoch.

    Args:
        path: of the PNG.
        history: list of dicts with epoch and loss, and pos_loss and `metric` if there are validation items.
        metric: key of the ranking metric.
        title: of the picture.
        best_epoch, anchor_epoch: marked in it.
    """
    validated = metric in history[0]
    figure, panels = _figure(2 if validated else 1)
    left, right = panels[0], panels[-1]
    epochs = [record["epoch"] for record in history]
    left.plot(epochs, [record["loss"] for record in history], color=GREY, label="training samples")
    left.set_ylabel("cross-entropy (nats)")
    if validated:
        left.plot(epochs, [record["pos_loss"] for record in history], color=ORANGE, label="validation items")
        left.axvline(anchor_epoch, color=ORANGE, linestyle=":", label=f"anchor: epoch {anchor_epoch}")
        right.plot(epochs, [record[metric] for record in history], color=BLUE, label="validation items")
        right.axvline(best_epoch, color=BLUE, linestyle=":", label=f"best: epoch {best_epoch}")
        right.set_ylabel(metric.upper())
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
    figure.suptitle(title)
    _save(figure, path)


def fidelity_plot(path, predicted, measured, scores, ceiling, title):
    """Predicted against measured losses of the retrainings, and the users' scores.

    Args:
        path: of the PNG.
        predicted, measured: (masks, num_users) losses; each user's are shown by their distance from her mean, in
            standard deviations.
        scores: dict of solver to (users,) rank correlations; the first is drawn filled.
        ceiling: dict with ceiling_own, or None there.
        title: of the picture.
    """
    figure, (left, right) = _figure(2)
    x, y = (((a - a.mean(0)) / np.maximum(a.std(0), 1e-30)).ravel() for a in (predicted, measured))
    shown = np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int)
    left.scatter(x[shown], y[shown], s=2, alpha=0.15, color=BLUE, linewidths=0)
    edges = np.quantile(x, np.linspace(0, 1, 11))
    bins = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, 9)
    count = np.maximum(np.bincount(bins, minlength=10), 1)
    left.plot(np.bincount(bins, x, 10) / count, np.bincount(bins, y, 10) / count, color=ORANGE, marker="o", markersize=3,
              label="mean of each tenth")
    left.set_xlim(-3, 3)
    left.set_ylim(-3, 3)
    left.set_xlabel(f"predicted loss ({next(iter(scores))}), standardised per user")
    left.set_ylabel("loss after retraining, standardised")
    left.legend(frameon=False, loc="upper left")
    bins = np.linspace(-1, 1, 41)
    for (name, values), color, style in zip(scores.items(), (BLUE, ORANGE, GREY), ("stepfilled", "step", "step")):
        right.hist(values, bins, histtype=style, color=color, alpha=0.6 if style == "stepfilled" else 1,
                   label=f"{name}: mean {values.mean():.3f}")
    if ceiling["ceiling_own"] is not None:
        right.axvline(ceiling["ceiling_own"], color=GREY, linestyle=":",
                      label=f"ceiling, about {ceiling['ceiling_own']:.2f}")
    right.set_xlabel("rank correlation over the retrainings")
    right.set_ylabel("users")
    right.legend(frameon=False, loc="upper left", fontsize="small")
    figure.suptitle(title)
    _save(figure, path)


def scaling_plot(path, rows, title):
    """Seconds and memory by number of interactions.

    Args:
        path: of the PNG.
        rows: list of dicts with num_interactions, seconds and extra_mb.
        title: of the picture.
    """
    figure, panels = _figure(2)
    millions = [row["num_interactions"] / 1e6 for row in rows]
    for axes, key, label, color in zip(panels, ("seconds", "extra_mb"), ("seconds", "MB beyond data and model"),
                                       (BLUE, ORANGE)):
        axes.plot(millions, [row[key] for row in rows], color=color, marker="o")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.15 * max(row[key] for row in rows) or 1)
        axes.set_xlabel("million interactions")
        axes.set_ylabel(label)
    figure.suptitle(title)
    _save(figure, path)


def disclosure_plot(path, influence, unwillingness, disclosed, weight, title):
    """The decisions: each interaction by unwillingness and influence, and the share disclosed by unwillingness.

    Args:
        path: of the PNG.
        influence, unwillingness: (n,) arrays.
        disclosed: (n,) bool.
        weight: willingness weight lambda; the line influence = lambda * unwillingness parts the decisions.
        title: of the picture.
    """
    figure, (left, right) = _figure(2)
    shown = np.linspace(0, len(influence) - 1, min(POINTS, len(influence))).astype(int)
    for chosen, color, label in ((False, GREY, "withheld"), (True, BLUE, "disclosed")):
        rows = shown[disclosed[shown] == chosen]
        left.scatter(unwillingness[rows], influence[rows], s=2, alpha=0.4, color=color, linewidths=0, label=label)
    left.plot([0, 1], [0, weight], color=ORANGE, label=f"price of unwillingness: {weight:.3g}")
    limit = np.quantile(np.abs(influence), 0.97) or 1
    left.set_ylim(-limit, limit)  # a few extreme influences would hide the rest
    left.set_xlabel("unwillingness")
    left.set_ylabel("influence (nats)")
    left.legend(frameon=False, markerscale=4, loc="lower right")
    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(unwillingness, edges) - 1, 0, 9)
    count = np.bincount(bins, minlength=10)
    share = np.bincount(bins, disclosed, 10) / np.maximum(count, 1)
    right.bar(edges[:-1] + 0.05, 100 * share, width=0.09, color=BLUE)
    right.set_ylim(0, 100)
    right.set_xlabel("unwillingness")
    right.set_ylabel("disclosed (%)")
    figure.suptitle(title)
    _save(figure, path)
