import io
import os
import re

import keras
import pytest

from pipeline.batches import EvaluationBatches, TrainingBatches
from pipeline.callbacks import progress
from pipeline.callbacks.progress import COLUMNS, Progress
from pipeline.callbacks.throughput import Throughput

WIDTH = 80


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True

    def screen(self):
        """What is left in each line once all has been drawn over."""
        return [line.split("\r")[-1].removesuffix("\33[K") for line in self.getvalue().split("\n")]


def scaled(images, rng=None):
    return images / 1000


def network():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4, "softmax")]
    network = keras.Sequential(layers)
    network.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return network


@pytest.fixture
def trained(tiny_images, monkeypatch):
    """Trains for some epochs and returns what was shown: `trained(io.StringIO(), epochs=2)`."""
    monkeypatch.setattr(progress, "REDRAWN", 0)

    def trained(stream, *more, epochs=2, start_at=0):
        with Progress(8, stream) as shown:
            network().fit(
                TrainingBatches(*tiny_images, 8, [scaled], start_epoch=start_at),
                steps_per_epoch=3,
                validation_data=EvaluationBatches(*tiny_images, 8, scaled),
                shuffle=False,
                epochs=epochs,
                initial_epoch=start_at,
                callbacks=[Throughput(8), shown, *more],
                verbose=0,
            )
        return stream

    return trained


def test_a_log_has_a_line_an_epoch_under_the_names_of_the_columns(trained):
    names, *rows, end = trained(io.StringIO(), epochs=3).getvalue().split("\n")
    assert names.split() == " ".join(COLUMNS).split()
    assert end == ""
    number, time = r" +\d+\.\d{4}", r" +\d+:\d\d:\d\d"
    for epoch, row in enumerate(rows, 1):
        assert re.fullmatch(rf" +{epoch}/3{number * 4} +0\.1 +[\d,]+{time}", row), row
        assert len(row) == len(names) < WIDTH
    assert len(rows) == 3
    assert rows[-1].endswith(" 0:00:00")


def test_the_numbers_are_those_of_the_epoch(trained):
    seen = {}
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.update(logs))
    row = trained(io.StringIO(), look, epochs=1).getvalue().splitlines()[-1].split()
    measures = ("loss", "accuracy", "val_loss", "val_accuracy")
    assert row[1:5] == [f"{seen[measure]:.4f}" for measure in measures]


def test_on_a_terminal_the_line_is_drawn_over_and_never_wraps(trained):
    stream = trained(Terminal(), epochs=2)
    assert "starting" in stream.getvalue()
    assert re.search(r"1/2 .* batch 2/3 ", stream.getvalue())
    assert "validation 3" in stream.getvalue()
    assert all(len(drawn) < WIDTH for drawn in re.split("[\r\n]", stream.getvalue()))
    assert len(stream.screen()) == 1 + 2 + 1
    plain = trained(io.StringIO(), epochs=2).getvalue().split("\n")
    assert [row.split()[:6] for row in stream.screen()] == [row.split()[:6] for row in plain]


def test_a_run_that_goes_on_counts_from_its_first_epoch_and_has_that_time_left(trained):
    stream = trained(io.StringIO(), epochs=5, start_at=3)
    assert [row.split()[0] for row in stream.getvalue().splitlines()[1:]] == ["4/5", "5/5"]
    assert stream.getvalue().splitlines()[-1].endswith(" 0:00:00")


def test_amid_an_epoch_what_an_earlier_process_has_trained_does_not_count(monkeypatch):
    """Of ten batches five are left, of eight images and two seconds each."""
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = Terminal()
    shown = Progress(8, stream)
    shown.set_params({"epochs": 1, "steps": 10})
    shown.on_epoch_begin(0)
    for batch in (5, 6, 7):
        now += 2
        shown.on_train_batch_end(batch)
    assert stream.screen()[-1].split() == ["1/1", "batch", "8/10", "4", "0:00:04"]


def test_what_is_printed_at_an_epochs_end_has_a_line_of_its_own(trained):
    stream = Terminal()
    message = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: print("moved", file=stream))
    assert trained(stream, message, epochs=2).screen().count("moved") == 2


def test_what_is_printed_after_a_failure_has_a_line_of_its_own(trained):
    def fail(batch, logs=None):
        raise RuntimeError

    stream = Terminal()
    with pytest.raises(RuntimeError):
        trained(stream, keras.callbacks.LambdaCallback(on_train_batch_end=fail))
    assert stream.getvalue().endswith("\n")


def test_a_run_goes_on_though_nobody_reads_its_rows_any_more(trained):
    reader, writer = os.pipe()
    os.close(reader)
    ended = []
    last = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    with open(writer, "w") as stream:
        trained(stream, last, epochs=2)
    assert ended == [0, 1]


def test_an_epoch_of_one_batch_has_a_line_too(tiny_images):
    stream = io.StringIO()
    with Progress(24, stream) as shown:
        images, labels = tiny_images
        network().fit(images / 1000, labels, batch_size=24, callbacks=[shown], verbose=0)
    assert stream.getvalue().splitlines()[1].split()[0] == "1/1"
