"""A run's report as one HTML page that needs nothing beside it and no network."""

import base64
import datetime
import math
import statistics
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from pipeline import history as histories
from pipeline.evaluation.page import Curve, draw, render
from pipeline.evaluation.predictions import Predictions
from pipeline.history import History

CONFUSIONS = 10
MATRIX_CLASSES = 25  # up to so many the confusion matrix is a table, of more an image
PICTURE_PIXELS = 160  # width of the widest picture
LONG_LIST = 12  # numbers, from which on their median and range say more


def report_html(
    name: str,
    history: History,
    record: Mapping[str, Any],
    predictions: Predictions | None = None,
    mistakes: Mapping[int, np.ndarray] | None = None,
    augmented: np.ndarray | None = None,
    text: str | None = None,
) -> str:
    """Lays out what came of a run, and under which conditions; what is not given is left out.

    Everything that is shown is escaped, and the page forbids itself scripts and requests: names and
    options may hold anything.

    Args:
        name: of the run.
        history: its measures by epoch.
        record: its options, and all that the result depends on beside them, as `Run.record` has it;
            what is a mapping in it is shown as a table of its own.
        predictions: for the test images.
        mistakes: images that are classified wrongly, by their index, in the order in which they are
            shown; uint8 RGB (height, width, 3).
        augmented: examples of what the training saw, uint8 RGB (k, height, width, 3).
        text: the report as text, which is shown where there are no predictions.

    Raises:
        ValueError: there are no test images, or probabilities and labels do not fit together.
    """
    return render(
        "report.html",
        name=name,
        epochs=histories.epochs(history),
        part=record.get("reported_on", "test"),
        conditions=_conditions(record),
        curves=_curves(history),
        val_accuracy=(history.get("val_accuracy") or [None])[-1],
        tested=_tested(predictions, mistakes or {}) if predictions else None,
        augmented=[] if augmented is None else [_picture(image) for image in augmented],
        text=Markup.escape(text) if text else None,
        settings=_settings(record),
    )


def setting(value: Any) -> str:
    """Returns the value of an option or a condition as a table shows it."""
    if isinstance(value, list | tuple):
        if len(value) >= LONG_LIST and all(isinstance(number, int | float) for number in value):
            return f"median {statistics.median(value):g} ({min(value):g} to {max(value):g})"
        return ", ".join(map(setting, value))
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{key} {setting(part)}" for key, part in value.items())
    return "-" if value is None or value in ("", {}) else str(value)


def _conditions(record: Mapping[str, Any]) -> list[str]:
    """Names what no number compares without, as far as the record has it."""
    options, versions = record.get("options", {}), record.get("versions", {})
    backend = options.get("backend") or record.get("backend")
    processor = record.get("processor", {}).get("name")
    conditions = [
        f"{record['parameters']:,} parameters" if "parameters" in record else None,
        f"seed {options['seed']}" if "seed" in options else None,
        options.get("precision"),
        f"Keras {versions['keras']}" if "keras" in versions else None,
        f"{backend} {versions.get(backend, '')}" if backend else None,
        processor or ", ".join(record.get("devices", [])),
    ]
    if seconds := record.get("seconds"):
        start = record.get("start_epoch")
        since = f"from epoch {start + 1} on " if start else ""
        time = datetime.timedelta(seconds=round(seconds))
        conditions.append(f"{since}trained in {time} h")
    return [str(condition) for condition in conditions if condition]


def _curves(history: History) -> list[Markup]:
    """Draws each measure by epoch, training beside validation."""
    drawings = []
    for measure in ("loss", "accuracy", "learning_rate"):
        if measure not in history:
            continue
        if measure == "learning_rate":
            curves = [Curve(history[measure])]
        else:
            kinds = (("", "training", "--"), ("val_", "validation", "-"))
            curves = [
                Curve(values, style, f"{kind} ({values[-1]:.4g})")
                for prefix, kind, style in kinds
                if (values := history.get(prefix + measure))
            ]
        drawings.append(draw(measure.replace("_", " "), curves))
    return drawings


def _tested(predictions: Predictions, mistakes: Mapping[int, np.ndarray]) -> dict:
    rank_1, rank_5 = predictions.ranks()
    count = len(predictions.labels)
    matrix = predictions.confusion_matrix()
    many = len(matrix) > MATRIX_CLASSES
    return {
        "count": count,
        "accuracy": rank_1,
        "rank_5": rank_5,
        "standard_error": math.sqrt(rank_1 * (1 - rank_1) / count),
        "calibration_error": predictions.calibration_error(),
        "classes": predictions.of_classes(),
        "confusions": predictions.confusions(CONFUSIONS),
        "label_names": predictions.label_names,
        "matrix": matrix.tolist(),
        "matrix_image": _matrix_image(matrix) if many else None,
        "wrong": int((predictions.predicted != predictions.labels).sum()),
        "mistakes": [_mistake(predictions, *mistake) for mistake in mistakes.items()],
        "shade": lambda images, row: 0.12 + 0.6 * images / sum(row),
    }


def _matrix_image(matrix: np.ndarray) -> str:
    parts = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    grey = np.rint(255 * (1 - parts)).astype(np.uint8)
    return _data_url(grey)


def _mistake(predictions: Predictions, index: int, image: np.ndarray) -> dict:
    said, right = predictions.predicted[index], predictions.labels[index]
    return {
        "picture": _picture(image),
        "said": predictions.label_names[said],
        "said_probability": predictions.probabilities[index, said],
        "right": predictions.label_names[right],
        "right_probability": predictions.probabilities[index, right],
    }


def _picture(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    if width > PICTURE_PIXELS:
        size = (PICTURE_PIXELS, max(1, round(height * PICTURE_PIXELS / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return _data_url(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _data_url(image: np.ndarray) -> str:
    png = cv2.imencode(".png", image)[1]
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _settings(record: Mapping[str, Any], title: str = "run") -> list[tuple[str, list]]:
    """Sorts a record into tables: one of what stands in it alone, and one for each mapping."""
    rows, nested = [], []
    for key, value in record.items():
        key = key.replace("_", " ")  # so that a long one can be broken
        if isinstance(value, Mapping):
            nested += _settings(value, key)
        else:
            rows.append((key, setting(value)))
    return ([(title, rows)] if rows else []) + nested
