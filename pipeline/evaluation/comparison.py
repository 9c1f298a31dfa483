"""Runs side by side: what they came to, how far they are apart, and in what options they differ."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import history as histories
from pipeline.errors import UserError, one_line
from pipeline.evaluation.savedrun import SavedRun
from pipeline.history import History

MEASURES = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class ComparedRun:
    """What of a run is compared.

    Attributes:
        label: what it is called in the comparison.
        history: its measures by epoch.
        options: its options, resolved, and the parts of its recipe.
        parameters: of its network.
        images_per_second: median over its epochs; None for a run that has not come to its end.
    """

    label: str
    history: History
    options: dict
    parameters: int
    images_per_second: float | None

    @classmethod
    def of(cls, run: SavedRun, label: str) -> "ComparedRun":
        """Takes from a run what is compared.

        Raises:
            UserError: its history lacks a measure, or has no epoch.
        """
        for measure in MEASURES:
            if not run.history.get(measure):
                raise UserError(f"{run.files.history} has no {measure} to compare")
        options = dict(run.record["options"])
        # Earlier versions had the recipe, as it was before the options, beside them.
        parts = options.pop("recipe_parts", None) or run.record.get("recipe") or {}
        speeds = run.record.get("images_per_second")
        speed = statistics.median(speeds) if speeds else None
        return cls(label, run.history, {**parts, **options}, run.record["parameters"], speed)


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Returns the lines of a table: its first column aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def table_rows(runs: Sequence[ComparedRun]) -> list[tuple[str, ...]]:
    """Returns a table's cells: titles, and a row for each run, its label first."""
    titles = ("", "epochs", "parameters", "images/s", *(m.replace("_", " ") for m in MEASURES))
    rows = [titles]
    for run in runs:
        last = [f"{run.history[measure][-1]:.4f}" for measure in MEASURES]
        speed = f"{run.images_per_second:.1f}" if run.images_per_second else "-"
        epochs = histories.epochs(run.history)
        rows.append((one_line(run.label), str(epochs), f"{run.parameters:,}", speed, *last))
    return rows


def distances(runs: Sequence[ComparedRun]) -> list[tuple[str, ...]]:
    """Returns how far each further run is from the first, in the columns after the label."""
    first, *others = runs
    rows = []
    for run in others:
        measures = [
            f"{run.history[measure][-1] - first.history[measure][-1]:+.4f}" for measure in MEASURES
        ]
        # Speeds drift with the machine's load: their ratio says more than their difference.
        both = run.images_per_second and first.images_per_second
        ratio = f"x {run.images_per_second / first.images_per_second:.2f}" if both else "-"
        epochs = histories.epochs(run.history) - histories.epochs(first.history)
        parameters = f"{run.parameters - first.parameters:+,}"
        rows.append((f"{epochs:+}", parameters, ratio, *measures))
    return rows


def differing_options(runs: Sequence[ComparedRun]) -> dict[str, list]:
    """Returns the options in which runs differ, for each its value in every run."""
    names = dict.fromkeys(name for run in runs for name in run.options if name != "model")
    values = {name: [run.options.get(name) for run in runs] for name in names}
    return {
        name: in_runs
        for name, in_runs in values.items()
        if any(value != in_runs[0] for value in in_runs)
    }
