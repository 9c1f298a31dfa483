"""The HTML report, read as a browser reads it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from htmlpage import HOSTILE, Page
from sklearn.datasets import load_digits

from pipeline.errors import one_line
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.report_html import report_html

NAMES = ("zero", "one", "two")
LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.90, 0.05, 0.05],
        [0.30, 0.60, 0.10],  # a mistake
        [0.04, 0.95, 0.01],  # a worse one
        [0.10, 0.80, 0.10],
        [0.20, 0.10, 0.70],  # one in between
        [0.10, 0.20, 0.70],
    ],
    dtype=np.float32,
)
HISTORY = {
    "loss": [1.2, 0.8],
    "accuracy": [0.4, 0.7],
    "val_loss": [1.3, 0.9],
    "val_accuracy": [0.3, 0.5],
    "learning_rate": [0.1, 0.05],
}
RECORD = {
    "command": "python resnet_cifar10.py --epochs 2",
    "options": {"seed": 7, "precision": "float32", "stages": [1, 2], "backend": "tensorflow"},
    "parameters": 60790,
    "start_epoch": 0,
    "seconds": 4000.4,
    "images_per_second": [10.0 * n for n in range(1, 21)],
    "onednn": None,
    "versions": {"keras": "3.15.1", "tensorflow": "2.21.0"},
    "processor": {"name": "A Processor", "instruction_sets": ["AVX2"]},
}

PREDICTIONS = Predictions(PROBABILITIES, LABELS, NAMES)
WORST = (2, 4, 1)


@pytest.fixture(scope="module")
def images():
    """Real digits in three colours."""
    digits = (load_digits().images[:6] * 15).astype(np.uint8)
    return np.stack([digits, 255 - digits, digits // 2], axis=-1)


@pytest.fixture(scope="module")
def mistakes(images):
    return {index: images[index] for index in WORST}


@pytest.fixture(scope="module")
def page(mistakes):
    return Page(report_html("a run", HISTORY, RECORD, PREDICTIONS, mistakes))


def test_the_result_stands_with_its_conditions(page):
    error = 100 * np.sqrt(0.5 * 0.5 / 6)
    assert (
        "a run 50.00% of 6 test images are classified correctly. One run, its last epoch (2); "
        in (page.text)
    )
    assert f"the standard error of this accuracy is {error:.2f} points." in page.text
    calibration = f"{100 * PREDICTIONS.calibration_error():.2f} points (15 bins)."
    assert f"expected calibration error of {calibration}" in page.text
    conditions = "60,790 parameters · seed 7 · float32 · Keras 3.15.1 · tensorflow 2.21.0"
    assert f"{conditions} · A Processor · trained in 1:06:40 h" in page.text


def test_images_that_the_run_was_validated_on_are_not_called_test_images():
    record = RECORD | {"reported_on": "held-out"}
    page = Page(report_html("a run", HISTORY, record, PREDICTIONS))
    assert "of 6 held-out images are classified correctly" in page.text
    assert "test image" not in page.text


def test_each_class_has_its_precision_and_recall(page):
    assert ["zero", "3", "100.00%", "33.33%", "50.00%"] in page.rows
    assert ["one", "2", "33.33%", "50.00%", "40.00%"] in page.rows
    assert ["two", "1", "50.00%", "100.00%", "66.67%"] in page.rows


def test_confusions_are_counted_the_most_frequent_first(page):
    start = page.rows.index(["right", "said", "images"])
    assert page.rows[start + 1 : start + 3] == [["zero", "one", "2"], ["one", "two", "1"]]
    assert [row for row in page.rows if len(row) == 4] == [
        ["", "zero", "one", "two"],
        ["zero", "1", "2", ""],
        ["one", "", "1", "1"],
        ["two", "", "", "1"],
    ]


def test_the_worst_mistakes_are_shown_with_what_was_said_and_what_was_right(page, images):
    assert [alt for alt, _ in page.images] == [
        "a test image, zero",
        "a test image, one",
        "a test image, zero",
    ]
    for (_, shown), index in zip(page.images, WORST, strict=True):
        np.testing.assert_array_equal(shown, images[index])
    first, second = (
        "said one, 95.00% right zero, 4.00%",
        "said two, 70.00% right one, 10.00%",
    )
    assert page.text.index(first) < page.text.index(second)


def test_the_curves_are_drawings_in_the_pages_own_colours(page):
    drawings = re.findall(r"<svg.*?</svg>", page.html, re.DOTALL)
    texts = [
        [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
        for svg in drawings
    ]
    assert ["loss" in texts[0], "accuracy" in texts[1], "learning rate" in texts[2]] == [True] * 3
    assert {"training (0.8)", "validation (0.9)"} <= set(texts[0])
    assert {"training (0.7)", "validation (0.5)"} <= set(texts[1])
    assert all("currentColor" in svg and "#010203" not in svg for svg in drawings)
    ids = [value for name, value in page.attributes if name == "id" and value.startswith("p")]
    referred = re.findall(r"url\(#(\w+)\)", page.html)
    assert set(referred) <= set(ids)


def test_options_versions_and_hardware_are_listed(page):
    for row in (
        ["command", "python resnet_cifar10.py --epochs 2"],
        ["seed", "7"],
        ["stages", "1, 2"],
        ["images per second", "median 105 (10 to 200)"],
        ["onednn", "-"],
        ["keras", "3.15.1"],
        ["instruction sets", "AVX2"],
    ):
        assert row in page.rows


def test_nothing_is_fetched_and_nothing_can_run(page):
    assert "script" not in page.tags
    assert "link" not in page.tags
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("content", policy) in page.attributes
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"@import|url\((?!#)", page.html)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_and_options_are_text_whatever_they_hold(text, mistakes, page):
    names = (text, "one", f"two {text}")
    record = {**RECORD, "command": text, "options": {text: text, "seed": text}}
    predictions = Predictions(PROBABILITIES, LABELS, names)
    html = report_html(text, HISTORY, record, predictions, mistakes)
    html.encode()
    hostile = Page(html)
    assert set(hostile.tags) == set(page.tags)
    shown = one_line(text)
    assert [shown, "3", "100.00%", "33.33%", "50.00%"] in hostile.rows
    assert ["command", shown] in hostile.rows
    assert [shown.replace("_", " "), shown] in hostile.rows
    assert f"said one, 95.00% right {shown}, 4.00%" in hostile.text
    assert hostile.images[0][0] == f"a test image, {shown}"
    assert {name for name, _ in hostile.attributes} == {name for name, _ in page.attributes}


def test_many_classes_have_their_confusions_in_an_image_and_their_rank_5_stated():
    names = tuple(f"class {number}" for number in range(30))
    labels = np.arange(30)
    probabilities = np.eye(30, dtype=np.float32)
    probabilities[0] = probabilities[1]
    many = Page(report_html("run", HISTORY, {}, Predictions(probabilities, labels, names)))
    assert "96.67% of 30 test images are classified correctly, 100.00% have the right class" in (
        many.text
    )
    (drawn,) = [image for alt, image in many.images if alt.startswith("The confusion matrix")]
    expected = 255 * (1 - np.eye(30))
    expected[0, :2] = 255, 0
    np.testing.assert_array_equal(drawn[..., 0], expected)


def test_a_run_without_mistakes_says_so():
    right = Predictions(np.eye(3, dtype=np.float32)[LABELS], LABELS, NAMES)
    flawless = Page(report_html("run", {}, {}, right))
    assert "There are none: every test image is classified correctly." in flawless.text
    assert not flawless.images
    assert "svg" not in flawless.tags


def test_augmented_images_are_shown_large_ones_no_larger_than_needed():
    large = np.zeros((2, 400, 800, 3), np.uint8)
    html = report_html("run", HISTORY, {}, augmented=large)
    shown = [image for alt, image in Page(html).images if alt == "an augmented training image"]
    assert [image.shape for image in shown] == [(80, 160, 3)] * 2


def test_what_is_not_there_is_left_out():
    text = "precision <b> recall\n  zero"
    bare = Page(report_html("run", HISTORY, RECORD, text=text))
    assert "run 50.00% of the validation images are classified correctly." in bare.text
    assert f"<pre>{text.replace('<b>', '&lt;b&gt;')}</pre>" in bare.html
    for title in ("Worst mistakes", "Confusions", "Training images"):
        assert title not in bare.text
    assert not bare.images
    nothing = Page(report_html("run", {}, {}))
    assert nothing.text == "run run Settings, versions, hardware"


def test_the_time_of_a_run_that_went_on_is_that_of_its_last_part():
    page = Page(report_html("run", HISTORY, {**RECORD, "start_epoch": 1}))
    assert "from epoch 2 on trained in 1:06:40 h" in page.text
