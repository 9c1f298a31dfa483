"""The fused kernel against Keras's batch normalization, a layer at a time and in the network."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the fused kernel is TensorFlow's", allow_module_level=True)

import tensorflow as tf

from pipeline.nn.conv import ResNet
from pipeline.tensorflow_only import fuse_batch_normalization


def normalization(fused: bool, **options) -> keras.Model:
    model = keras.Sequential([keras.Input((6, 5, 7)), keras.layers.BatchNormalization(**options)])
    layer = model.layers[0]
    rng = np.random.default_rng(0)
    layer.gamma.assign(rng.uniform(0.5, 2, 7))
    layer.beta.assign(rng.normal(0, 1, 7))
    layer.moving_mean.assign(rng.normal(0, 1, 7))
    layer.moving_variance.assign(rng.uniform(0.5, 2, 7))
    if fused:
        fuse_batch_normalization(model)
        assert "call" in vars(layer), "the layer was not given the fused kernel"
    return model


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(3, 2, (4, 6, 5, 7)).astype("float32")


@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_moving_statistics_are_those_of_keras(images, training):
    results = []
    for fused in (False, True):
        model = normalization(fused, epsilon=2e-5, momentum=0.9)
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x, training=training)
            loss = tf.reduce_sum(outputs**3)
        gradients = tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)])
        results.append([outputs, *gradients, *(v.value for v in model.variables)])
    for stock, fused in zip(*results, strict=True):
        scale = np.abs(stock).max()
        np.testing.assert_allclose(fused / scale, stock / scale, atol=2e-6)


def test_moving_variance_is_the_populations(images):
    model = normalization(fused=True, momentum=0.0)
    model(images, training=True)
    expected = images.astype("float64").var(axis=(0, 1, 2))
    np.testing.assert_allclose(model.layers[0].moving_variance, expected, rtol=1e-5)


def test_a_frozen_layer_keeps_its_statistics(images):
    model = normalization(fused=True)
    model.layers[0].trainable = False
    before = [v.numpy() for v in model.variables]
    np.testing.assert_allclose(model(images, training=True), model(images), atol=1e-6)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_files_do_not_tell_the_difference(images, tmp_path):
    keras.utils.set_random_seed(0)
    model = ResNet.build(8, 8, 3, 4, (2,), (8, 16))
    model(np.random.default_rng(2).normal(0, 50, (16, 8, 8, 3)), training=True)
    x = np.random.default_rng(3).normal(0, 50, (5, 8, 8, 3)).astype("float32")
    config, stock = model.get_config(), model.predict(x, verbose=0)

    fuse_batch_normalization(model)
    assert model.get_config() == config
    for suffix in ("hdf5", "keras"):
        model.save(tmp_path / f"model.{suffix}")
        loaded = keras.models.load_model(tmp_path / f"model.{suffix}")
        layers = {type(layer) for layer in loaded.layers}
        assert all(layer.__module__.startswith("keras.") for layer in layers)
        np.testing.assert_allclose(loaded.predict(x, verbose=0), stock, atol=1e-5)
    np.testing.assert_allclose(model(x), stock, atol=1e-5)


def test_half_precision_is_left_to_keras():
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.BatchNormalization(dtype="mixed_bfloat16")]
    )
    fuse_batch_normalization(model)
    assert "call" not in vars(model.layers[0])
