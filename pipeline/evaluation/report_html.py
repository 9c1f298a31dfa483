"""A run's report as one HTML page that needs nothing beside it and no network."""

import base64
import datetime
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.errors import one_line
from pipeline.training import history as histories
from pipeline.training.history import History
from pipeline.utils.ranked import rank5_accuracy

MISTAKES, CONFUSIONS = 24, 10
MATRIX_CLASSES = 25  # up to so many the confusion matrix is a table, of more an image
PICTURE_PIXELS = 160  # width of the widest picture
LONG_LIST = 12  # numbers, from which on their median and range say more

# Matplotlib writes colours out; this one, which nothing else has, becomes the page's own.
INK = "#010203"


def report_html(
    name: str,
    history: History,
    record: Mapping[str, Any],
    label_names: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    images: np.ndarray,
    augmented: np.ndarray | None = None,
    seconds: float | None = None,
) -> str:
    """Lays out what came of a run, and under which conditions.

    Everything that is shown is escaped, and the page forbids itself scripts and requests: names and
    options may hold anything.

    Args:
        name: of the run.
        history: its measures by epoch.
        record: its options, and all that the result depends on beside them, as `Run.record` has it;
            what is a mapping in it is shown as a table of its own.
        label_names: the classes' names, by label.
        labels: the right classes of the test images, integers (n,).
        probabilities: of the test images, (n, classes).
        images: the test images, uint8 RGB (n, height, width, 3), indexable one at a time.
        augmented: examples of what the training saw, uint8 RGB (k, height, width, 3).
        seconds: that the training took.

    Raises:
        ValueError: there are no test images, or probabilities and labels do not fit together.
    """
    rank_1, rank_5 = rank5_accuracy(probabilities, labels)
    said = probabilities.argmax(axis=1)
    every = np.arange(len(label_names))
    matrix = confusion_matrix(labels, said, labels=every)
    many = len(label_names) > MATRIX_CLASSES
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )
    return environment.get_template("report.html").render(
        name=name,
        count=len(labels),
        accuracy=rank_1,
        rank_5=rank_5,
        standard_error=math.sqrt(rank_1 * (1 - rank_1) / len(labels)),
        epochs=histories.epochs(history),
        conditions=_conditions(record, seconds),
        curves=_curves(history),
        classes=_classes(label_names, labels, said),
        confusions=_confusions(label_names, matrix),
        label_names=label_names,
        matrix=matrix.tolist(),
        matrix_image=_matrix_image(matrix) if many else None,
        wrong=int((said != labels).sum()),
        mistakes=_mistakes(label_names, labels, said, probabilities, images),
        augmented=[] if augmented is None else [_picture(image) for image in augmented],
        settings=_settings(record),
        percent="{:.2%}".format,
        shade=lambda images, row: 0.12 + 0.6 * images / sum(row),
    )


def _conditions(record: Mapping[str, Any], seconds: float | None) -> list[str]:
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
        f"trained in {datetime.timedelta(seconds=round(seconds))} h" if seconds else None,
    ]
    return [str(condition) for condition in conditions if condition]


def _curves(history: History) -> list[Markup]:
    """Draws each measure by epoch, training beside validation, as SVG in the page's colours."""
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings = {
        **dict.fromkeys(inked, INK),
        "svg.fonttype": "none",
        "svg.hashsalt": "",
        "legend.framealpha": 0,
        "font.size": 9,
    }
    count = histories.epochs(history)
    curves = []
    for measure in ("loss", "accuracy", "learning_rate"):
        if measure not in history:
            continue
        with matplotlib.rc_context(settings):
            # A figure of its own: those made through pyplot stay in memory for ever.
            figure = Figure(figsize=(4.4, 3), layout="constrained")
            ax = figure.subplots()
            for prefix, label, style in (("", "training", "--"), ("val_", "validation", "-")):
                if values := history.get(prefix + measure):
                    label = f"{label} ({values[-1]:.4g})"
                    style = "-" if measure == "learning_rate" else style
                    marker = "o" if count == 1 else None
                    ax.plot(range(1, count + 1), values, style, label=label, marker=marker)
            ax.set_title(measure.replace("_", " "), fontsize=10)
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.grid(color=INK, alpha=0.15)
            if measure != "learning_rate":
                ax.legend()
            svg = io.StringIO()
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
        text = svg.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        curves.append(Markup(text))  # of the run there are only numbers in it
    return curves


def _classes(label_names: Sequence[str], labels: np.ndarray, said: np.ndarray) -> list[dict]:
    columns = precision_recall_fscore_support(
        labels, said, labels=np.arange(len(label_names)), zero_division=0
    )
    keys = ("name", "precision", "recall", "f1", "images")
    return [dict(zip(keys, row, strict=True)) for row in zip(label_names, *columns, strict=True)]


def _confusions(label_names: Sequence[str], matrix: np.ndarray) -> list[dict]:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    confusions = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]:
        right, said = np.unravel_index(place, wrong.shape)
        if images := wrong[right, said]:
            pair = {"right": label_names[right], "said": label_names[said]}
            confusions.append({"images": images, **pair})
    return confusions


def _matrix_image(matrix: np.ndarray) -> str:
    parts = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    grey = np.rint(255 * (1 - parts)).astype(np.uint8)
    return _data_url(grey)


def _mistakes(
    label_names: Sequence[str],
    labels: np.ndarray,
    said: np.ndarray,
    probabilities: np.ndarray,
    images: np.ndarray,
) -> list[dict]:
    wrong = np.flatnonzero(said != labels)
    surest = wrong[np.argsort(-probabilities[wrong, said[wrong]], kind="stable")[:MISTAKES]]
    return [
        {
            "picture": _picture(images[index]),
            "said": label_names[said[index]],
            "said_probability": probabilities[index, said[index]],
            "right": label_names[labels[index]],
            "right_probability": probabilities[index, labels[index]],
        }
        for index in surest
    ]


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
            rows.append((key, _text(value)))
    return ([(title, rows)] if rows else []) + nested


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        if len(value) >= LONG_LIST and all(isinstance(number, int | float) for number in value):
            return f"median {statistics.median(value):g} ({min(value):g} to {max(value):g})"
        return ", ".join(map(_text, value))
    return "-" if value is None else str(value)
