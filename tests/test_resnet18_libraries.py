"""The libraries' ResNet-18; whether it is the same network is tested with ResNet18."""

import importlib.util
import sys

import keras
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.files.modelfile import read_checkpoint, save_checkpoint
from pipeline.nn.conv import ResNet18
from pipeline.nn.conv.resnet18_libraries import (
    TorchModule,
    keras_hub_resnet18,
    torchvision_resnet18,
)
from pipeline.training.classifier import Classifier

on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="it needs PyTorch as Keras's backend"
)


def test_keras_hubs_network_trains_as_many_parameters_and_none_is_out_of_sight():
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    theirs = keras_hub_resnet18(32, 32, 3, 10)
    assert theirs.count_params() == 11_191_242
    norms = [x for x in theirs.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 20


def test_one_seed_gives_keras_hubs_network_and_ours_the_same_weights():
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    weights = []
    for build in (ResNet18.build, keras_hub_resnet18):
        keras.utils.set_random_seed(7)
        weights.append(build(32, 32, 3, 10).get_weights())
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "keras_hub.models", None)
    with pytest.raises(UserError, match=r"pip install '\.\[keras-hub\]'"):
        keras_hub_resnet18(32, 32, 3, 10)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="there it runs")
def test_torchvisions_network_is_refused_on_another_backend():
    with pytest.raises(UserError, match="runs on Keras's torch backend, not on"):
        torchvision_resnet18(32, 32, 3, 10)


@on_torch
def test_a_torch_modules_moving_statistics_come_back_from_a_checkpoint(tmp_path):
    from torch import nn

    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4))
    inputs = keras.Input((2, 2, 3))
    x = TorchModule(module, output_shape=(None, 4), name="module")(inputs)
    network = keras.Model(inputs, keras.layers.Activation("softmax")(x))
    model = Classifier(network, keras.optimizers.SGD(0.1))
    assert model.count_params() == 12 * 4 + 4 + 4 * 4
    assert sum(np.prod(weight.shape) for weight in model.non_trainable_weights) == 2 * 4

    rng = np.random.default_rng(8)
    images, labels = rng.random((16, 2, 2, 3), dtype=np.float32), np.arange(16) % 4
    model.train_on_batch(images, labels)
    save_checkpoint(tmp_path / "epoch_1.hdf5", model, {"epoch": 1, "history": {}, "options": {}})
    saved = model.predict(images, verbose=0)
    model.train_on_batch(images, labels)
    assert not np.array_equal(model.predict(images, verbose=0), saved)
    read_checkpoint(tmp_path / "epoch_1.hdf5").restore(model)
    np.testing.assert_array_equal(model.predict(images, verbose=0), saved)


@on_torch
def test_torchvisions_network_trains_as_many_parameters():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    theirs = torchvision_resnet18(32, 32, 3, 10)
    assert theirs.count_params() == 11_191_242
    assert sum(np.prod(weight.shape) for weight in theirs.trainable_weights) == 11_181_642
    probabilities = theirs.predict(np.ones((2, 32, 32, 3), np.float32), verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), [1, 1], atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="it already is the torch backend")
def test_the_rest_holds_on_the_torch_backend(run_python):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    done = run_python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "torch"),
        KERAS_BACKEND="torch",
    )
    assert done.returncode == 0, done.stdout + done.stderr
