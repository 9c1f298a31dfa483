import keras
import numpy as np
import pytest

from pipeline.callbacks import divergenceguard
from pipeline.callbacks.lazycallbacklist import LazyCallbackList
from pipeline.io.dataset import Dataset
from pipeline.training.classifier import Classifier
from pipeline.training.experiment import Options, train
from tests.toy import NAMES, experiment

STEPS = 100


class OnTheDevice:
    """A measure that counts how often somebody waits for its number."""

    looks = 0

    def __init__(self, tensor):
        self.tensor = tensor

    def __float__(self):
        type(self).looks += 1
        return float(keras.ops.convert_to_numpy(self.tensor))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(float(self), dtype)


@pytest.fixture
def looks(monkeypatch):
    """Returns how often a measure of a training step was looked at."""
    OnTheDevice.looks = 0
    make_train_function = Classifier.make_train_function

    def make(classifier, force=False):
        make_train_function(classifier, force)
        step = classifier.train_function

        def train_function(*state):
            result = step(*state)
            logs, *rest = result if isinstance(result, tuple) else (result,)
            logs = {name: OnTheDevice(tensor) for name, tensor in logs.items()}
            return (logs, *rest) if rest else logs

        classifier.train_function = train_function

    monkeypatch.setattr(Classifier, "make_train_function", make)
    return lambda: OnTheDevice.looks


def read(path=None):
    """Makes as many images as an epoch of STEPS batches of 4 takes."""
    labels = np.arange(4 * STEPS, dtype=np.int32) % 4
    images = np.random.default_rng(3).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    return Dataset(images, labels, images[:8], labels[:8], NAMES)


def test_an_epoch_waits_for_no_step_but_the_few_that_the_guard_looks_at(looks, tmp_path):
    train(experiment(reader=read, batch_size=4), Options(output=str(tmp_path)))
    assert 0 < looks() <= STEPS / divergenceguard.BATCHES + 2  # two for the speed


def test_whoever_looks_gets_a_number():
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append((batch, dict(logs), logs.get("none")))
    )
    look.on_test_batch_end = lambda batch, logs: seen.append(("test", logs["loss"]))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    data = np.ones((4, 1))
    callbacks = LazyCallbackList([look], add_history=True, model=model, epochs=1, steps=2)
    fitted = model.fit(
        data,
        data,
        batch_size=2,
        validation_data=(data[:2], data[:2]),
        callbacks=callbacks,
        verbose=0,
    )
    assert seen == [(0, {"loss": 1.0}, None), (1, {"loss": 1.0}, None), ("test", 1.0)]
    assert isinstance(seen[0][1]["loss"], float)
    assert fitted.history == {"loss": [1.0], "val_loss": [1.0]}
