"""Where a run's results lie: in one folder, under one name."""

from pathlib import Path

HISTORY, OPTIONS = ".json", "_options.json"  # what a run is known by


class ResultFiles:
    """The files of a run's results, but for its checkpoints and its final model.

    Args:
        folder: of the results.
        name: theirs.

    Attributes:
        history: measures by epoch, JSON; `TrainingMonitor` writes the same as CSV beside it.
        curve, curve_pdf: the history, drawn.
        options: what it was run with, JSON; see `Run.record`.
        report: on the test images, text.
        page: all of it, HTML.
        predictions: for the test images; see `KeptPredictions`.
        pictures: what is known of the photographs that it is trained on; see `inspect`.
    """

    def __init__(self, folder: Path, name: str):
        self.history = folder / f"{name}{HISTORY}"
        self.curve = folder / f"{name}.png"
        self.curve_pdf = folder / f"{name}.pdf"
        self.options = folder / f"{name}{OPTIONS}"
        self.report = folder / f"{name}_report.txt"
        self.page = folder / f"{name}_report.html"
        self.predictions = folder / f"{name}_predictions.npz"
        self.pictures = folder / f"{name}_pictures.json"
