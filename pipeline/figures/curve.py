"""A run's curve: loss, accuracy and learning rate by epoch."""

import io

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline import history as histories
from pipeline.errors import one_line
from pipeline.history import History

# Up to this many learning rates are taken for a person's, who lowers them by powers of ten.
MOST_RATES_BY_HAND = 8
LONGEST_TITLE, LONGEST_LABEL = 300, 40  # characters, of which more would fill the figure


def plot(
    history: History,
    title: str = "",
    validation: str = "",
    regularized: bool = False,
    format: str = "png",
    over: tuple[str, History] | None = None,
) -> bytes:
    """Draws loss, accuracy and learning rate by epoch, training beside validation.

    Args:
        history: what is drawn.
        title: of the figure: data set and network.
        validation: which images the validation is on, if it is no validation set.
        regularized: whether the loss includes the penalty of an L2 regularization.
        format: of the file, `png` or `pdf`.
        over: name and history of another run, whose curves are drawn in grey beneath these.
    """
    count = histories.epochs(history)
    numbers = range(1, count + 1)
    beneath, its_history = over or ("", {})
    # Matplotlib leaves labels out of a legend that begin with an underscore.
    beneath = one_line(beneath)[:LONGEST_LABEL].lstrip("_").replace("$", r"\$")
    few = count <= 30
    # A figure of its own: those made through pyplot stay in memory for ever.
    figure = Figure(figsize=(8, 8), dpi=150)
    # Margins that are given: to find them would take as long as to draw, and an epoch may be short.
    margins = {"left": 0.105, "right": 0.98, "bottom": 0.065, "top": 0.945, "hspace": 0.07}
    axes = figure.subplots(3, sharex=True, height_ratios=(2, 2, 1), gridspec_kw=margins)
    # A folder may be named "$", which opens a formula here.
    validation = one_line(validation)[:LONGEST_LABEL].replace("$", r"\$")
    held_out = f"validation ({validation})" if validation else "validation"
    lines = (("", "training", "C0"), ("val_", held_out, "C1"))
    for ax, measure in zip(axes, ("loss", "accuracy"), strict=False):
        for prefix, style in (("", ":"), ("val_", "-")):
            if values := its_history.get(prefix + measure):
                label = f"{beneath}, {'validation' if prefix else 'training'}: {values[-1]:.4f}"
                epochs = range(1, len(values) + 1)
                ax.plot(epochs, values, style, color="0.6", label=label, linewidth=1.5)
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
    title = one_line(title)[:LONGEST_TITLE]
    figure.suptitle(title, fontsize="medium", parse_math=False)
    axes[2].set_xlabel("epoch")
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[2].set_xlim(0.5, max(count, histories.epochs(its_history)) + 0.5)
    content = io.BytesIO()
    # Publishers take TrueType fonts (42) only; without a date, equal runs have equal files.
    metadata = {"CreationDate": None} if format == "pdf" else None
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(content, format=format, metadata=metadata)
    return content.getvalue()
