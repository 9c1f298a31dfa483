import json
import os

import keras
import numpy as np
import pytest

from pipeline import history as histories
from pipeline.errors import UserError

TWO_EPOCHS = {"loss": [2.0, 1.5], "val_accuracy": [0.25, 0.5], "learning_rate": [0.1, 0.01]}


def test_an_epoch_is_appended_to_each_measure():
    history = {"loss": [2.0], "learning_rate": [0.1]}
    histories.append(history, {"loss": 1.5, "images_per_second": 90.0}, np.float32(0.01))
    assert history == {"loss": [2.0, 1.5], "learning_rate": [0.1, 0.01]}


@pytest.mark.parametrize("rate", [0.1, 1e-05, 0.004999999888241291, 0.3])
def test_a_learning_rate_has_float32s_own_digits(rate):
    variable = keras.optimizers.SGD(rate).learning_rate
    history = {}
    histories.append(history, {}, variable)
    (digits,) = history["learning_rate"]
    assert len(str(digits)) <= 12
    assert np.float32(digits) == np.float32(rate)


def test_numpys_numbers_become_pythons():
    logs = {"loss": np.float32(1.5), "accuracy": np.float64(0.5), "val_loss": 2}
    after = {}
    histories.append(after, logs, np.float32(0.1))
    assert all(type(value) is float for values in after.values() for value in values)
    assert json.loads(json.dumps(after)) == after


def test_the_number_of_epochs():
    assert histories.epochs({}) == 0
    assert histories.epochs(TWO_EPOCHS) == 2


def test_csv_holds_every_digit():
    rows = histories.as_csv({"loss": [2.0, 1 / 3], "learning_rate": [0.1, 1e-05]}).splitlines()
    assert rows == ["epoch,loss,learning_rate", "1,2.0,0.1", f"2,{1 / 3!r},1e-05"]
    assert float(rows[2].split(",")[1]) == 1 / 3
    assert histories.as_csv({}) == "epoch\n"


def test_trimming_keeps_the_first_epochs_and_leaves_the_whole_as_it_is():
    trimmed = {"loss": [2.0], "val_accuracy": [0.25], "learning_rate": [0.1]}
    assert histories.trimmed(TWO_EPOCHS, 1) == trimmed
    histories.append(histories.trimmed(TWO_EPOCHS, 2), {"loss": 1.0}, 0.1)
    assert histories.epochs(TWO_EPOCHS) == 2
    assert histories.trimmed(TWO_EPOCHS, 5) == TWO_EPOCHS
    assert histories.epochs(histories.trimmed(TWO_EPOCHS, 0)) == 0


def test_a_written_history_is_read(tmp_path):
    path = tmp_path / "history.json"
    path.write_text(json.dumps(TWO_EPOCHS))
    assert histories.read_history(path) == TWO_EPOCHS


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"loss": [2.0, 1.5',
        "[1.0]",
        "3",
        "null",
        '{"loss": 2.0}',
        '{"loss": "2.0"}',
        '{"loss": {}}',
        '{"loss": [1.0], "accuracy": 3}',
        '{"loss": ["high"]}',
        '{"loss": [[1.0]]}',
        '{"loss": [null]}',
        '{"loss": [NaN]}',
        '{"loss": [Infinity]}',
        '{"loss": [-1e999]}',
        '{"loss": [1.0, 2.0], "accuracy": [0.5]}',
    ],
)
def test_what_is_no_history_is_refused(tmp_path, text):
    path = tmp_path / "history.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path} is damaged or not a history .*move it away"):
        histories.read_history(path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "history.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a history"):
        histories.read_history(path)


def test_another_programs_history_may_have_whole_numbers_and_measures_of_its_own(tmp_path):
    path = tmp_path / "history.json"
    path.write_text('{"loss": [2, 1.5], "acc": [0, 1], "lr": [NaN], "note": "mine"}')
    assert histories.read_keras_history(path) == {"loss": [2.0, 1.5], "accuracy": [0.0, 1.0]}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"loss": 1}',
        '{"loss": "12"}',
        '{"loss": {"0": 1.9}}',
        '{"loss": ["0.5"]}',
        '{"loss": [true]}',
        '{"loss": [NaN]}',
        '{"loss": [1%s]}' % (400 * "0"),
        '{"loss": [1, 2], "acc": [0]}',
    ],
)
def test_what_is_no_history_of_another_program_is_refused(tmp_path, text):
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(UserError, match="is not a history of lists of numbers"):
        histories.read_keras_history(tmp_path / "history.json")


def test_a_pipe_in_its_place_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "history.json")
    with pytest.raises(OSError, match="it is a pipe"):
        histories.read_history(tmp_path / "history.json")
