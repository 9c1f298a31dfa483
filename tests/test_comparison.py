import json

import pytest

from pipeline.errors import UserError
from pipeline.evaluation.comparison import (
    ComparedRun,
    aligned,
    differing_options,
    distances,
    table_rows,
)
from pipeline.evaluation.savedrun import SavedRun

HISTORY = {
    "loss": [2.0, 1.5],
    "accuracy": [0.25, 0.5],
    "val_loss": [2.1, 1.75],
    "val_accuracy": [0.2, 0.4],
    "learning_rate": [0.1, 0.1],
}
RECORD = {
    "options": {"model": "scratch", "epochs": 2, "augment": False},
    "parameters": 1234,
    "images_per_second": [10.0, 100.0, 90.0],
}


@pytest.fixture
def folder(tmp_path):
    """A folder with the results of two runs, `first` and `second`."""
    write(tmp_path, "first", HISTORY, RECORD)
    write(
        tmp_path,
        "second",
        {name: [value * 1.1 for value in values[:1]] for name, values in HISTORY.items()},
        {
            "options": {"model": "other", "epochs": 1, "augment": False},
            "parameters": 1230,
            "images_per_second": [45.0],
        },
    )
    return tmp_path


def write(folder, name, history, record):
    (folder / f"{name}.json").write_text(json.dumps(history))
    (folder / f"{name}_options.json").write_text(json.dumps(record))


def read(folder):
    return [ComparedRun.of(SavedRun.read(folder, name), name) for name in ("first", "second")]


def test_the_table_has_a_row_a_run(folder):
    assert aligned(table_rows(read(folder))) == [
        "        epochs  parameters  images/s    loss  accuracy  val loss  val accuracy",
        "first        2       1,234      90.0  1.5000    0.5000    1.7500        0.4000",
        "second       1       1,230      45.0  2.2000    0.2750    2.3100        0.2200",
    ]


def test_options_in_which_runs_differ_are_found(folder):
    """But not how they are called, nor those in which they are alike."""
    assert differing_options(read(folder)) == {"epochs": [2, 1]}


def test_a_run_that_has_not_ended_has_no_speed_yet(folder):
    write(folder, "second", HISTORY, RECORD | {"images_per_second": None})
    runs = read(folder)
    assert [row[3] for row in table_rows(runs)[1:]] == ["90.0", "-"]
    assert [row[2] for row in distances(runs)] == ["-"]


def test_every_further_run_is_held_against_the_first(folder):
    first, second = read(folder)
    assert distances([first, second, first]) == [
        ("-1", "-4", "x 0.50", "+0.7000", "-0.2250", "+0.5600", "-0.1800"),
        ("+0", "+0", "x 1.00", "+0.0000", "+0.0000", "+0.0000", "+0.0000"),
    ]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("first.json", None, "first.json is missing: train that run first"),
        ("first_options.json", None, "first_options.json is missing"),
        ("first.json", "{", "first.json is damaged"),
        ("first_options.json", "[]", "first_options.json is damaged"),
        ("first_options.json", '{"options": {}}', "first_options.json is damaged"),
    ],
)
def test_missing_and_damaged_results_are_named(folder, file, content, message):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(UserError, match=message):
        read(folder)
