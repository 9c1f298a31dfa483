import io
import re

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.image import imread

from pipeline.figures.curve import plot


def test_the_plot_shows_every_measure_it_is_given():
    full = {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5], "accuracy": [0.1, 0.5]}
    pictures = {plot(full)}
    for name, values in full.items():
        pictures.add(plot(full | {name: values[::-1]}))
    pictures.add(plot(full | {"val_accuracy": [0.2, 0.4]}))
    assert len(pictures) == 5


def test_the_learning_rate_is_drawn_whoever_lowers_it():
    def picture(rates):
        return plot({"loss": [1.0] * len(rates), "learning_rate": rates})

    constant = [0.1] * 20
    by_hand = [0.1] * 10 + [0.01] * 10
    schedule = list(np.linspace(0.1, 0, 20))
    assert len({picture(rates) for rates in (constant, by_hand, schedule)}) == 3


def test_the_plot_says_of_what_it_is():
    history = {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5]}
    words = (
        {"title": "pets"},
        {"title": "$ of a folder's $name_"},
        {"validation": "test set"},
        {"validation": "$ of a $"},
        {"regularized": True},
        {},
    )
    assert len({plot(history, **word) for word in words}) == 6


def test_what_it_is_drawn_over_is_seen_and_named():
    history = {"loss": [2.0, 1.0], "val_accuracy": [0.5, 0.6]}
    other = {"loss": [2.5, 1.5, 1.0], "val_accuracy": [0.4, 0.5, 0.7]}
    short = {name: values[:2] for name, values in other.items()}
    over = [None, ("original", other), ("another", other), ("original", short), ("$", other)]
    assert len({plot(history, over=beneath) for beneath in over}) == 5
    # Matplotlib leaves such names out of its legends.
    assert plot(history, over=("_original", other)) == plot(history, over=("original", other))


def test_the_plot_is_sharp_enough_for_a_report():
    height, width, _ = imread(io.BytesIO(plot({"loss": [2.0, 1.0]}))).shape
    assert min(height, width) >= 1000


@pytest.mark.filterwarnings("error")
def test_whatever_there_is_of_a_history_is_drawn():
    long = {"loss": list(range(1000))}
    stopped = {"loss": [1.0], "learning_rate": [0.0]}
    for history in ({"loss": [1.0]}, {"accuracy": [0.5]}, long, stopped):
        assert imread(io.BytesIO(plot(history))).shape[2] == 4


def test_no_figure_stays_behind():
    plot({"loss": [1.0]})
    assert pyplot.get_fignums() == []


@pytest.mark.filterwarnings("error")
def test_what_a_file_made_by_others_says_is_drawn_as_well():
    for words in ("\x1b[2J\n\0", "\ud800", "$x_{", "very long " * 100_000):
        for format in ("png", "pdf"):
            plot({"loss": [1.0], "val_loss": [2.0]}, words, words, format=format)


def test_a_paper_gets_lines_and_letters_that_publishers_take_and_the_same_each_time():
    history = {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5]}
    content = plot(history, "pets", format="pdf")
    assert content.startswith(b"%PDF-")
    assert re.findall(rb"/Subtype /(Image|Type3|Type0)", content) == [b"Type0"]
    assert plot(history, "pets", format="pdf") == content
