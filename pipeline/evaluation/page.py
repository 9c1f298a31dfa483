"""What HTML pages share: their frame, which forbids scripts and requests, and drawn curves."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.errors import one_line

# Matplotlib writes colours out; this one, which nothing else has, becomes the page's own.
INK = "#010203"


@dataclass(frozen=True)
class Curve:
    """A measure by epoch.

    Attributes:
        values: from epoch 1 on.
        style: Matplotlib's, such as `--`.
        label: for the legend; not a user's text, as Matplotlib takes some characters for commands.
        colour: any of Matplotlib's; the next of its own if left out.
    """

    values: Sequence[float]
    style: str = "-"
    label: str | None = None
    colour: str | None = None


def draw(title: str, curves: Sequence[Curve]) -> Markup:
    """Draws curves over one another as SVG in the page's colours."""
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings = {
        **dict.fromkeys(inked, INK),
        "svg.fonttype": "none",
        "svg.hashsalt": "",
        "legend.framealpha": 0,
        "font.size": 9,
    }
    with matplotlib.rc_context(settings):
        # A figure of its own: those made through pyplot stay in memory for ever.
        figure = Figure(figsize=(4.4, 3), layout="constrained")
        ax = figure.subplots()
        for curve in curves:
            count = len(curve.values)
            look = {"label": curve.label, "color": curve.colour}
            look["marker"] = "o" if count == 1 else None
            ax.plot(range(1, count + 1), curve.values, curve.style, **look)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.grid(color=INK, alpha=0.15)
        if any(curve.label for curve in curves):
            ax.legend()
        svg = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    text = svg.getvalue()
    return Markup(text[text.index("<svg") :].replace(INK, "currentColor"))


def render(template: str, **values: Any) -> str:
    """Fills a template of this folder in, escaping all that is not markup already."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )
    return environment.get_template(template).render(
        percent="{:.2%}".format, grouped="{:,}".format, **values
    )
