"""What a run has left in its folder, and the page and the figure that are made of it."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import history as histories
from pipeline.errors import UserError
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.report_html import report_html
from pipeline.figures.curve import plot
from pipeline.files.atomic import write_atomically
from pipeline.files.reading import read_regular
from pipeline.files.resultfiles import ResultFiles
from pipeline.history import History

MISTAKES = 24  # shown, and kept with the predictions
# Of files that are read: the predictions for 100,000 images of 1,000 classes take 400 MB.
MOST_BYTES, MOST_TEXT_BYTES = 2**29, 2**24
DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    MemoryError,  # which an array of a made-up size would take
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class KeptPredictions:
    """What a run has said of the test images, and some pictures that go with it.

    Attributes:
        predictions: for the test images.
        epochs: that the network was trained by then.
        mistakes: the worst of them, uint8 RGB (height, width, 3), by the image's index.
        augmented: examples of what the training saw, uint8 RGB (k, height, width, 3).
    """

    predictions: Predictions
    epochs: int
    mistakes: Mapping[int, np.ndarray] = field(default_factory=dict)
    augmented: np.ndarray | None = None

    @property
    def readable(self) -> bool:
        """Whether `read` would take as many."""
        return self.predictions.probabilities.nbytes < 0.9 * MOST_BYTES

    def write(self, path: Path) -> None:
        """Writes a compressed NumPy archive, atomically; see `read` for its arrays."""
        mistakes = list(self.mistakes.values())
        none = np.empty((0, 1, 1, 3), np.uint8)
        content = io.BytesIO()
        np.savez_compressed(
            content,
            probabilities=self.predictions.probabilities,
            labels=self.predictions.labels,
            label_names=np.array(self.predictions.label_names),
            epochs=np.int64(self.epochs),
            mistakes=np.array(list(self.mistakes), np.int64),
            mistaken_images=np.stack(mistakes) if mistakes else none,
            augmented_images=none if self.augmented is None else self.augmented,
        )
        write_atomically(path, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> KeptPredictions:
        """Reads what `write` has written.

        Raises:
            FileNotFoundError: there is no such file.
            UserError: it cannot be read, or is damaged.
        """
        try:
            content = io.BytesIO(read_regular(path, MOST_BYTES))
            with zipfile.ZipFile(content) as archive:
                if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                    raise ValueError("it is too large")
            content.seek(0)
            with np.load(content, allow_pickle=False) as arrays:
                return cls._checked(arrays)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        except DAMAGE as error:
            raise UserError(
                f"{path} is damaged or holds no predictions ({error}); move it away"
            ) from error

    @classmethod
    def _checked(cls, arrays: Mapping[str, np.ndarray]) -> KeptPredictions:
        names, epochs = arrays["label_names"], int(arrays["epochs"])
        predictions = Predictions(arrays["probabilities"], arrays["labels"], tuple(names.tolist()))
        mistakes, images, augmented = (
            arrays[name] for name in ("mistakes", "mistaken_images", "augmented_images")
        )
        predictions.ranks()  # raises if probabilities and labels do not fit together
        sound = (
            predictions.probabilities.dtype.kind == "f"
            and names.dtype.kind == "U"
            and names.shape == predictions.probabilities.shape[1:]
            and mistakes.dtype.kind == "i"
            and mistakes.shape == images.shape[:1]
            and all(0 <= index < len(predictions.labels) for index in mistakes)
            and _are_pictures(images)
            and _are_pictures(augmented)
        )
        if not sound:
            raise ValueError("its arrays do not fit together")
        shown = dict(zip(mistakes.tolist(), images, strict=True))
        return cls(predictions, epochs, shown, augmented)


def _are_pictures(array: np.ndarray) -> bool:
    picture = array.shape[1:]
    return array.dtype == np.uint8 and picture[2:] == (3,) and all(picture)


@dataclass(frozen=True, eq=False)
class SavedRun:
    """The results of a run, as far as they are there.

    Attributes:
        name: of the result files.
        files: where they lie.
        history: its measures by epoch.
        record: its options, and what the result depends on beside them.
        text: the report.
        kept: its predictions.

    Text and predictions of a run that has gone on since, and has not come to its end again, are
    left out.
    """

    name: str
    files: ResultFiles
    history: History
    record: Mapping[str, Any]
    text: str | None
    kept: KeptPredictions | None

    @classmethod
    def read(cls, output: Path, name: str) -> SavedRun:
        """Reads the run whose results in `output` are named `name`.

        Raises:
            UserError: its history or its options are missing, or a file is damaged.
        """
        files = ResultFiles(output, name)
        try:
            history = histories.read_history(files.history)
        except FileNotFoundError as error:
            raise UserError(f"{error.filename} is missing: train that run first") from error
        record = read_record(files.options)
        try:
            text = read_regular(files.report, MOST_TEXT_BYTES).decode(errors="replace")
        except FileNotFoundError:
            text = None
        try:
            kept = KeptPredictions.read(files.predictions)
            if kept.epochs != histories.epochs(history):
                text = kept = None
        except FileNotFoundError:
            kept = None
        return cls(name, files, history, record, text, kept)

    def write_page(self) -> Path:
        """Writes the page beside the results and returns its path.

        Raises:
            OSError: it cannot be written.
        """
        kept = (self.kept.predictions, self.kept.mistakes, self.kept.augmented) if self.kept else ()
        page = report_html(self.name, self.history, self.record, *kept, text=self.text)
        write_atomically(self.files.page, page)
        return self.files.page

    def write_curve(self) -> Path:
        """Draws the curve as PDF, for papers, beside the results and returns its path.

        Raises:
            OSError: it cannot be written.
        """
        return self._draw(self.files.curve_pdf, format="pdf")

    def write_curve_over(self, name: str, history: History) -> Path:
        """Draws the curve over another run's as PNG beside the results and returns its path.

        Raises:
            OSError: it cannot be written.
        """
        path = self.files.curve.with_name(f"{self.name}_over_{name}.png")
        return self._draw(path, over=(name, history))

    def _draw(self, path: Path, **how: Any) -> Path:
        drawn_with = {"title": self.name, **self.record.get("curve", {}), **how}
        write_atomically(path, plot(self.history, **drawn_with))
        return path


def read_record(path: Path) -> dict[str, Any]:
    """Reads a run's options and what else its result depends on.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        record = json.loads(read_regular(path, MOST_TEXT_BYTES))
        for key in ("options", "parameters"):
            if key not in record:
                raise ValueError(f"it has no {key}")
        for key, value in record.items():
            if not _is_shallow(value) or (key in FORMS and not FORMS[key](value)):
                raise ValueError(f"its {key} is something else")
        return record
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: train that run first") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged or not a run's options ({error})") from error


def _is_shallow(value: Any, levels: int = 5) -> bool:
    """Tells whether a value can be shown: nested no deeper than a run's options."""
    if not isinstance(value, dict | list):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(part, levels - 1) for part in parts)


def _are_options(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("recipe_parts") or {}, dict)
        and isinstance(value.get("backend") or "", str)
    )


def _is_drawn_with(value: Any) -> bool:
    kinds = {"title": str, "validation": str, "regularized": bool}
    return isinstance(value, dict) and all(type(v) is kinds.get(k) for k, v in value.items())


# Of what form the parts of a record are that the pages do more with than show them.
FORMS = {
    "options": _are_options,
    "recipe": lambda value: isinstance(value or {}, dict),
    "backend": lambda value: isinstance(value or "", str),
    "versions": lambda value: isinstance(value, dict),
    "processor": lambda value: isinstance(value, dict),
    "curve": _is_drawn_with,
    "parameters": lambda value: type(value) is int,
    "start_epoch": lambda value: type(value) is int,
    "devices": lambda value: all(isinstance(name, str) for name in value or []),
    "images_per_second": lambda value: all(isinstance(n, int | float) for n in value or []),
    "seconds": lambda value: 0 <= (value or 0) < 1e9,
}
