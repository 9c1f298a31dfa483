import keras
import numpy as np
import pytest

from pipeline.callbacks import divergenceguard
from pipeline.callbacks.divergenceguard import DivergenceGuard
from pipeline.callbacks.epochcheckpoint import EpochCheckpoint
from pipeline.errors import Diverged
from pipeline.files.checkpoints import newest_checkpoint

pytestmark = pytest.mark.numerics


def fit(poisoned=None, poison=np.nan, validation=0.0, callbacks=()):
    """Trains on 4 batches, of which one may have a label that is no finite number."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss="mse")
    labels = np.zeros((8, 1), "float32")
    if poisoned is not None:
        labels[2 * poisoned] = poison
    validation = (np.ones((2, 1)), np.full((2, 1), validation))
    model.fit(
        np.ones((8, 1), "float32"),
        labels,
        batch_size=2,
        epochs=3,
        shuffle=False,
        validation_data=validation,
        verbose=0,
        callbacks=[DivergenceGuard(), *callbacks],
    )


@pytest.mark.parametrize("batches", [1, 2, 20])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_the_batch_that_spoils_the_loss_is_named(poison, batches, monkeypatch):
    monkeypatch.setattr(divergenceguard, "BATCHES", batches)
    with pytest.raises(Diverged, match=f"the loss is {poison} in epoch 1, batch 3$"):
        fit(poisoned=2, poison=poison)


def test_a_long_epoch_is_not_trained_to_its_end(monkeypatch):
    monkeypatch.setattr(divergenceguard, "BATCHES", 1)
    begun = []
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda b, logs: begun.append(b))
    with pytest.raises(Diverged, match=r"batch 1$"):
        fit(poisoned=0, callbacks=[count])
    assert begun == [0, 1]


def test_a_validation_that_leaves_the_numbers_ends_training():
    with pytest.raises(Diverged, match="the validation loss is nan in epoch 1, after its last"):
        fit(validation=np.nan)


class Spoil(keras.callbacks.Callback):
    """Spoils a variable once the second epoch's last batch is over."""

    def __init__(self, variable, value):
        super().__init__()
        self.variable, self.value = variable, value

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            variable = self.variable(self.model)
            variable.assign(np.full(variable.shape, self.value))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (lambda model: model.network.get_layer("fc").bias, np.nan),
        (lambda model: model.network.get_layer("fc").bias, -np.inf),
        (lambda model: model.optimizer.variables[-1], np.inf),
        (lambda model: model.optimizer.variables[-1], np.nan),
    ],
    ids=["weight", "infinite weight", "infinite momentum", "momentum"],
)
def test_what_no_loss_shows_ends_training_before_it_is_in_a_checkpoint(
    variable, value, tiny_network, tiny_images, tmp_path
):
    """The last batch's loss is from before, and no validation follows."""
    model = tiny_network()
    with pytest.raises(Diverged, match=r"(bias|momentum) is no longer finite in epoch 2,"):
        model.fit(
            *tiny_images,
            batch_size=8,
            epochs=3,
            verbose=0,
            callbacks=[Spoil(variable, value), DivergenceGuard(), EpochCheckpoint(tmp_path)],
        )
    assert newest_checkpoint(tmp_path).epoch == 1


def test_the_epoch_is_counted_from_the_start_of_the_run():
    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.layers[0].bias.assign([np.nan])

    with pytest.raises(Diverged, match="epoch 3, batch 1"):
        fit(callbacks=[Poison()])


def test_no_callback_behind_it_sees_the_end_of_the_spoilt_epoch():
    ended = []
    behind = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    with pytest.raises(Diverged):
        fit(validation=np.nan, callbacks=[behind])
    assert ended == []


def test_a_sound_training_goes_to_its_end():
    ended = []
    fit(callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: ended.append(e))])
    assert ended == [0, 1, 2]
