"""Lay runs out as HTML pages and their curves as PDF again, and compare several on one page.

  python report.py output
  python report.py output/results/resnet18 output/results/resnet18_augmented
  python report.py output --over original.json

A run is named by its output folder, which may hold several, or by its history, a .json file. Every
run's page, and its curve for papers, are written beside its results, whether it has come to its end
or not; of what is not there, such as the predictions of earlier versions, the page goes without.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.command_line import script
from pipeline.command_line.options import Parser
from pipeline.errors import UserError, one_line
from pipeline.files.resultfiles import HISTORY, OPTIONS


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of the run's results, or its history")
    page = "the page that compares several runs (default: %(default)s)"
    add("-o", "--output", default="output/comparison.html", metavar="FILE", help=page)
    over = "a history, a .json, over which the curve of every run is drawn as well"
    add("--over", type=Path, metavar="HISTORY", help=over)
    args = parser.parse_args()
    if not args.output.endswith(".html"):
        parser.error(f"--output {args.output} must be an .html file")
    found = list(dict.fromkeys(run for argument in args.runs for run in find(Path(argument))))

    # Only now, so that --help and wrong options are answered at once.
    from pipeline.evaluation.comparison import ComparedRun, aligned, table_rows
    from pipeline.evaluation.comparison_html import comparison_html
    from pipeline.evaluation.savedrun import SavedRun
    from pipeline.files.atomic import write_atomically
    from pipeline.history import read_keras_history

    # Everything is read before anything is written.
    runs = [SavedRun.read(folder, name) for folder, name in found]
    beneath = read_keras_history(args.over) if args.over else {}
    compared = []
    if len(runs) > 1:
        compared = list(map(ComparedRun.of, runs, labels(found)))

    # pages and curves
    for run in runs:
        print(one_line(f"page: {run.write_page()}, curve: {run.write_curve()}"))
        if args.over:
            drawn = run.write_curve_over(args.over.stem, beneath)
            print(one_line(f"over {args.over}: {drawn}"))
    if compared:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.output, comparison_html(compared))
        written = one_line(f"comparison: {args.output}")
        print("", *aligned(table_rows(compared)), "", written, sep="\n")


def find(path: Path) -> list[tuple[Path, str]]:
    """Returns folder and name of the runs that a path names.

    Raises:
        UserError: it names none.
    """
    if path.is_dir():
        names = sorted(file.name.removesuffix(OPTIONS) for file in path.glob(f"*{OPTIONS}"))
        names = [name for name in names if (path / f"{name}{HISTORY}").exists()]
        if not names:
            raise UserError(
                f"{path} holds no run, which has a history, NAME.json, and NAME{OPTIONS}"
            )
        return [(path, name) for name in names]
    for ending in (OPTIONS, HISTORY):
        if path.name.endswith(ending):
            return [(path.parent, path.name.removesuffix(ending))]
    raise UserError(f"{path} is not a run: give its folder of results, or its history, a .json")


def labels(runs: list[tuple[Path, str]]) -> list[str]:
    """Returns what to call runs: by name, by folder, or by both, so that it tells them apart."""
    for call in (
        lambda folder, name: name,
        lambda folder, name: folder.resolve().name,
        lambda folder, name: f"{folder.resolve().name}/{name}",
    ):
        called = [call(*run) for run in runs]
        if len(set(called)) == len(runs):
            return called
    return [str(folder / name) for folder, name in runs]


if __name__ == "__main__":
    script.run(main)
