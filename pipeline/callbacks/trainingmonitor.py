"""The record of a run that a person watches: history as JSON and CSV, and a plot of it."""

import io
import json
import sys
from pathlib import Path

import keras
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.files.atomic import write_atomically
from pipeline.training import history as histories
from pipeline.training.history import History
from pipeline.training.schedule import last_learning_rate

# Up to this many learning rates are taken for a person's, who lowers them by powers of ten.
MOST_RATES_BY_HAND = 8


class TrainingMonitor(keras.callbacks.Callback):
    """Writes the history to JSON and CSV and plots loss and accuracy after every epoch.

    The files are replaced atomically. A plot that cannot be written is only warned of.

    Args:
        fig_path: the plot, PNG.
        json_path: the history, and beside it the same as CSV; without it none is written.
        start_at: epochs already trained. The history of a resumed run is trimmed to them.
        history: the epochs already trained; by default what `json_path` holds.
        title, validation: as for `plot`.

    Raises:
        UserError: `json_path` is to be resumed and is not a history.
    """

    def __init__(
        self,
        fig_path: str | Path,
        json_path: str | Path | None = None,
        start_at: int = 0,
        history: History | None = None,
        title: str = "",
        validation: str = "",
    ):
        super().__init__()
        self.fig_path = Path(fig_path)
        self.json_path = Path(json_path) if json_path else None
        if history is None and start_at > 0 and self.json_path and self.json_path.exists():
            history = histories.read_history(self.json_path)
        self.history = histories.trimmed(history or {}, start_at)
        self._drawn_with = {"title": title, "validation": validation}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the epoch to the history, the learning rate included, and writes the files."""
        learning_rate = last_learning_rate(self.model.optimizer)
        histories.append(self.history, logs or {}, learning_rate)
        if self.json_path:
            write_atomically(self.json_path, json.dumps(self.history) + "\n")
            write_atomically(self.json_path.with_suffix(".csv"), histories.as_csv(self.history))
        regularized = bool(self.model.losses)
        png = plot(self.history, **self._drawn_with, regularized=regularized)
        try:
            write_atomically(self.fig_path, png)
        except OSError as error:
            print(f"warning: {self.fig_path} was not drawn: {error.strerror}", file=sys.stderr)


def plot(
    history: History, title: str = "", validation: str = "", regularized: bool = False
) -> bytes:
    """Draws loss, accuracy and learning rate by epoch, training beside validation, as PNG.

    Args:
        history: what is drawn.
        title: of the figure: data set and network.
        validation: which images the validation is on, if it is no validation set.
        regularized: whether the loss includes the penalty of an L2 regularization.
    """
    count = histories.epochs(history)
    numbers = range(1, count + 1)
    few = count <= 30
    # A figure of its own: those made through pyplot stay in memory for ever.
    figure = Figure(figsize=(8, 8), dpi=150, layout="constrained")
    axes = figure.subplots(3, sharex=True, height_ratios=(2, 2, 1))
    held_out = f"validation ({validation})" if validation else "validation"
    lines = (("", "training", "C0"), ("val_", held_out, "C1"))
    for ax, measure in zip(axes, ("loss", "accuracy"), strict=False):
        for prefix, label, color in lines:
            if values := history.get(prefix + measure):
                style = {"marker": "o", "markersize": 3} if few else {}
                label = f"{label}: {values[-1]:.4f}"
                ax.plot(numbers, values, color=color, label=label, linewidth=1.5, **style)
        if ax.lines:
            ax.legend(title="last epoch")
    axes[0].set_ylabel("loss, L2 penalty included" if regularized else "loss")
    axes[1].set_ylabel("accuracy")
    if rates := history.get("learning_rate"):
        # A step an epoch, as it was; a lone epoch has no line, but a dot.
        style = {"marker": ".", "markersize": 4} if few else {}
        axes[2].plot(numbers, rates, color="C2", linewidth=1, drawstyle="steps-mid", **style)
        if 1 < len(set(rates)) <= MOST_RATES_BY_HAND and min(rates) > 0:
            axes[2].set_yscale("log")
        else:
            axes[2].set_ylim(0, 1.05 * max(rates) or 1)
    axes[2].set_ylabel("learning rate")
    for ax in axes:
        ax.grid(alpha=0.3)
    figure.align_ylabels(axes)
    figure.suptitle(title, fontsize="medium", parse_math=False)  # a folder may be named "$"
    axes[2].set_xlabel("epoch")
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[2].set_xlim(0.5, count + 0.5)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
