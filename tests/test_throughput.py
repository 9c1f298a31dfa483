import keras
import numpy as np
import pytest

from pipeline.callbacks.throughput import Throughput


class Clock:
    """Stands still but for what a test adds to it."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def epoch(monkeypatch):
    """Lets a callback see an epoch whose batches take these seconds; returns the measure."""
    clock = Clock()
    monkeypatch.setattr("pipeline.callbacks.throughput.time", clock)

    def epoch(callback, *seconds, validation=0.0):
        logs = {}
        callback.on_epoch_begin(0)
        for batch, duration in enumerate(seconds):
            clock.now += duration
            callback.on_train_batch_end(batch)
        clock.now += validation
        callback.on_epoch_end(0, logs)
        return logs.get("images_per_second")

    return epoch


def test_an_epochs_speed_is_its_images_by_the_seconds_of_training(epoch):
    callback = Throughput(batch_size=64)
    epoch(callback, 1, 1)
    assert epoch(callback, 0.5, 0.25, 0.25, validation=100) == 3 * 64


def test_the_first_batch_of_a_run_which_compiles_is_left_out(epoch):
    callback = Throughput(batch_size=10)
    assert epoch(callback, 30, 0.5, 0.5) == 20
    assert epoch(callback, 1, 1, 1) == 10


def test_an_epoch_of_nothing_but_the_first_batch_has_no_speed(epoch):
    callback = Throughput(batch_size=10)
    assert epoch(callback, 30) is None
    assert epoch(callback, 2) == 5


def test_fit_has_it_in_its_history():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    data = np.ones((4, 1))
    fitted = model.fit(
        data, data, batch_size=2, epochs=2, verbose=0, callbacks=[Throughput(batch_size=2)]
    )
    assert len(fitted.history["images_per_second"]) == 2
    assert all(speed > 0 for speed in fitted.history["images_per_second"])
