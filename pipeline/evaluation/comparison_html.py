"""Several runs on one HTML page that needs nothing beside it and no network."""

from collections.abc import Sequence

import matplotlib

from pipeline.evaluation.comparison import ComparedRun, differing_options, distances, table_rows
from pipeline.evaluation.page import Curve, draw, render
from pipeline.evaluation.report_html import setting

DRAWN = {
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "loss": "training loss",
    "accuracy": "training accuracy",
}


def comparison_html(runs: Sequence[ComparedRun]) -> str:
    """Lays runs' curves over one another, and lists what they came to and where they differ.

    Everything that is shown is escaped, and the page forbids itself scripts and requests.

    Args:
        runs: two or more; the others are held against the first.
    """
    titles, *rows = table_rows(runs)
    palette = matplotlib.colormaps["tab10" if len(runs) <= 10 else "tab20"].colors
    colours = [
        matplotlib.colors.to_hex(palette[number % len(palette)]) for number in range(len(runs))
    ]
    coloured = list(zip(runs, colours, strict=True))
    return render(
        "comparison.html",
        runs=runs,
        titles=titles,
        rows=rows,
        distances=distances(runs),
        colours=colours,
        curves=[
            draw(title, [Curve(run.history[measure], colour=c) for run, c in coloured])
            for measure, title in DRAWN.items()
        ],
        options=differing_options(runs),
        setting=setting,
    )
