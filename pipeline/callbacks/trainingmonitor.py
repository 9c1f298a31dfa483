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

# Up to this many changes of the learning rate are marked; a schedule that changes it every epoch
# would only draw a fence.
MAX_MARKED_CHANGES = 8


class TrainingMonitor(keras.callbacks.Callback):
    """Writes the history to JSON and CSV and plots loss and accuracy after every epoch.

    The files are replaced atomically. A plot that cannot be written is only warned of.

    Args:
        fig_path: the plot, PNG.
        json_path: the history, and beside it the same as CSV; without it none is written.
        start_at: epochs already trained. The history of a resumed run is trimmed to them.
        history: the epochs already trained; by default what `json_path` holds.

    Raises:
        UserError: `json_path` is to be resumed and is not a history.
    """

    def __init__(
        self,
        fig_path: str | Path,
        json_path: str | Path | None = None,
        start_at: int = 0,
        history: History | None = None,
    ):
        super().__init__()
        self.fig_path = Path(fig_path)
        self.json_path = Path(json_path) if json_path else None
        if history is None and start_at > 0 and self.json_path and self.json_path.exists():
            history = histories.read_history(self.json_path)
        self.history = histories.trimmed(history or {}, start_at)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the epoch to the history, the learning rate included, and writes the files."""
        learning_rate = last_learning_rate(self.model.optimizer)
        self.history = histories.appended(self.history, logs or {}, learning_rate)
        if self.json_path:
            write_atomically(self.json_path, json.dumps(self.history) + "\n")
            write_atomically(self.json_path.with_suffix(".csv"), histories.as_csv(self.history))
        try:
            write_atomically(self.fig_path, plot(self.history))
        except OSError as error:
            print(f"warning: {self.fig_path} was not drawn: {error.strerror}", file=sys.stderr)


def plot(history: History) -> bytes:
    """Draws loss and accuracy by epoch, training beside validation, as PNG."""
    count = histories.epochs(history)
    numbers = range(1, count + 1)
    # A figure of its own: those made through pyplot stay in memory for ever.
    figure = Figure(figsize=(8, 7), dpi=110, layout="constrained")
    axes = figure.subplots(2, sharex=True)
    for ax, measure in zip(axes, ("loss", "accuracy"), strict=True):
        for prefix, label, color in (("", "training", "C0"), ("val_", "validation", "C1")):
            values = history.get(prefix + measure)
            if values:
                label = f"{label} ({values[-1]:.4f})"
                style = {"marker": "o", "markersize": 3} if count <= 30 else {}
                ax.plot(numbers, values, color=color, label=label, linewidth=1.5, **style)
        ax.set_ylabel(measure)
        ax.grid(alpha=0.3)
        if ax.lines:
            ax.legend(title=f"{measure} (last epoch)")
    rates = history.get("learning_rate", [])
    changes = [i for i in range(1, len(rates)) if rates[i] != rates[i - 1]]
    if len(changes) <= MAX_MARKED_CHANGES:
        for i in changes:
            for ax in axes:
                ax.axvline(i + 0.5, color="gray", linestyle=":", linewidth=1)
            axes[0].annotate(
                f"learning rate {rates[i]:g}",
                (i + 0.5, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -3),
                textcoords="offset points",
                rotation=90,
                va="top",
                fontsize=8,
                color="gray",
            )
    axes[1].set_xlabel("epoch")
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[1].set_xlim(0.5, count + 0.5)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
