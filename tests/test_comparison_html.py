"""The page that compares runs, read as a browser reads it."""

import re

import pytest
from htmlpage import HOSTILE, Page
from matplotlib.colors import to_hex

from pipeline.errors import one_line
from pipeline.evaluation.comparison import ComparedRun
from pipeline.evaluation.comparison_html import DRAWN, comparison_html

HISTORY = {
    "loss": [2.0, 1.5],
    "accuracy": [0.25, 0.5],
    "val_loss": [2.1, 1.75],
    "val_accuracy": [0.2, 0.4],
}
SHORTER = {name: [0.9 * value for value in values[:1]] for name, values in HISTORY.items()}
OPTIONS = {"epochs": 2, "seed": 1, "stages": [1, 2], "flip": "random"}


@pytest.fixture(scope="module")
def runs():
    other = {"epochs": 1, "seed": 1, "affine": {"shift": 0.1}, "stages": [1, 2], "flip": ""}
    return [
        ComparedRun("first", HISTORY, OPTIONS, 1234, 90.0),
        ComparedRun("second", SHORTER, other, 1230, None),
    ]


@pytest.fixture(scope="module")
def page(runs):
    return Page(comparison_html(runs))


def test_the_last_epochs_are_listed_and_held_against_the_first(page):
    titles = ["", "epochs", "parameters", "images/s", "loss", "accuracy", "val loss"]
    assert [*titles, "val accuracy"] in page.rows
    assert ["first", "2", "1,234", "90.0", "1.5000", "0.5000", "1.7500", "0.4000"] in page.rows
    assert ["second", "1", "1,230", "-", "1.8000", "0.2250", "1.8900", "0.1800"] in page.rows
    differences = ["-1", "-4", "-", "+0.3000", "-0.2750", "+0.1400", "-0.2200"]
    assert ["second", *differences] in page.rows
    assert "Differences from first" in page.text


def test_options_are_listed_where_the_runs_differ(page):
    start = page.rows.index(["", "epochs", "flip", "affine"])
    assert page.rows[start + 1 :] == [
        ["first", "2", "random", "-"],
        ["second", "1", "-", "shift 0.1"],
    ]


def test_equal_options_need_no_table(runs):
    equal = ComparedRun("again", SHORTER, OPTIONS, 1230, None)
    assert "Differences in options There are none." in Page(comparison_html([runs[0], equal])).text


def test_each_run_has_a_curve_of_its_own_colour_in_every_drawing(page):
    drawings = re.findall(r"<svg.*?</svg>", page.html, re.DOTALL)
    assert len(drawings) == len(DRAWN)
    for drawing, title in zip(drawings, DRAWN.values(), strict=True):
        assert title in drawing
        for number in range(2):
            assert to_hex(f"C{number}") in drawing
    colours = [
        value for name, value in page.attributes if value and value.startswith("background: #")
    ]
    assert colours == [f"background: {to_hex(f'C{number}')}" for number in range(2)]


def test_more_runs_than_colours_are_drawn(runs):
    many = Page(comparison_html(runs * 11))
    assert many.text.startswith("22 runs compared")


@pytest.mark.parametrize("text", [*HOSTILE, "$x_{", "_hidden"])
def test_names_and_options_are_text_whatever_they_hold(text, runs, page):
    hostile = ComparedRun(text, HISTORY, {**OPTIONS, text: text}, 1, None)
    html = comparison_html([hostile, runs[1]])
    html.encode()
    shown = Page(html)
    assert set(shown.tags) == set(page.tags)
    assert {name for name, _ in shown.attributes} == {name for name, _ in page.attributes}
    assert shown.rows[1][0] == one_line(text)
    assert one_line(text) in shown.rows[-2]
    assert one_line(text.replace("_", " ")) in shown.rows[-3]
