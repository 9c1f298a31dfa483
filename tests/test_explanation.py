import keras
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.figures.explanation import class_maps, draw
from pipeline.nn.conv import ResNet

SIZE = 32  # four places of the pool after one stage of stride 2


@pytest.fixture(scope="module")
def network():
    network = ResNet.build(SIZE, SIZE, 3, 4, (1, 1), (4, 8, 8))
    rng = np.random.default_rng(2)
    network.set_weights(
        [
            np.abs(w) + 0.1 if w.ndim < 2 else rng.normal(0, 0.3, w.shape)
            for w in network.get_weights()
        ]
    )
    return network


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(0, 50, (3, SIZE, SIZE, 3)).astype("float32")


def test_they_are_what_the_gradients_say(network, images):
    """Grad-CAM as the paper has it: feature maps weighted by the logit's mean gradient."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the gradients are taken with TensorFlow")
    import tensorflow as tf

    labels = np.array([0, 3, 2])
    features = keras.Model(network.inputs, network.get_layer("avg_pool").input)(images)
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = network.get_layer("avg_pool")(features)
        logits = network.get_layer("fc")(network.get_layer("flatten")(pooled))
        chosen = tf.gather(logits, labels, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(chosen, features), axis=(1, 2), keepdims=True)
    expected = np.maximum(tf.reduce_sum(weights * features, axis=-1), 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    maps = class_maps(network, images, labels)
    assert maps.shape == (3, 16, 16)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_no_evidence_is_no_error(network, images):
    kernel, bias = network.get_layer("fc").get_weights()
    network.get_layer("fc").set_weights([-np.abs(kernel), bias])
    maps = class_maps(network, images, np.zeros(3, int))
    network.get_layer("fc").set_weights([kernel, bias])
    assert maps.tolist() == np.zeros_like(maps).tolist()


def test_another_network_is_refused(images):
    inputs = keras.Input((SIZE, SIZE, 3))
    other = keras.Model(inputs, keras.layers.Flatten()(inputs), name="other")
    with pytest.raises(UserError, match="other is not a network of this project"):
        class_maps(other, images, np.zeros(3, int))


def test_the_map_is_drawn_beside_the_picture():
    class_map = np.zeros((4, 4), np.float32)
    class_map[:2, :2] = 1
    drawn = draw(np.full((32, 64, 3), 100, np.uint8), class_map)
    assert drawn.shape == (256, 2 * 512, 3)
    assert (drawn[:, :512] == 100).all()
    red, _, blue = drawn[10, 512 + 10].astype(int)
    assert red > blue
    red, _, blue = drawn[-10, -10].astype(int)
    assert blue > red
