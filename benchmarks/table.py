"""The rows of a benchmark's table, and the machine that they were measured on."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.backend import processor


class Row(NamedTuple):
    """One piece of work done here and elsewhere, in turns."""

    work: str
    peer: str
    ours: Sequence[float]
    """One figure a repeat."""
    theirs: Sequence[float]
    goal: tuple[str, float]
    """">=" or "<=", and what the ratio of ours to theirs is to reach."""


def markdown(rows: Sequence[Row]) -> str:
    """Returns a table of medians, and the median and the range of the repeats' ratios."""
    lines = [
        "| work | ours | compared with | theirs | ratio | from - to | goal | reached |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        ratios = [ours / theirs for ours, theirs in zip(row.ours, row.theirs, strict=True)]
        ratio, (sign, bound) = statistics.median(ratios), row.goal
        reached = ratio >= bound if sign == ">=" else ratio <= bound
        cells = (
            row.work,
            _figure(statistics.median(row.ours)),
            row.peer,
            _figure(statistics.median(row.theirs)),
            f"{ratio:.2f}",
            f"{min(ratios):.2f} - {max(ratios):.2f}",
            f"{sign} {bound:g}",
            "yes" if reached else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """Returns the line above a table: the processor, what it can do, and how much of it is used."""
    cores = processor.cores()
    parts = (processor.name(), *processor.instruction_sets(), f"{cores} core{'s' * (cores > 1)}")
    return f"processor: {', '.join(parts)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
