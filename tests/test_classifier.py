import keras
import numpy as np
import pytest

from pipeline.batches import TrainingBatches
from pipeline.training.classifier import SHARE_OF_START, Classifier

pytestmark = pytest.mark.numerics

layers = keras.layers
MOMENTUM = 0.5  # of batch normalization; its start is forgotten after seven steps


def network(logits=None):
    """Classifies 4 numbers into 3 classes; `logits` are what it starts with for any of them."""
    inputs = keras.Input((4,))
    x = layers.BatchNormalization(momentum=MOMENTUM)(inputs)
    bias = keras.initializers.Constant(logits or [0.0, 0.0, 0.0])
    x = layers.Dense(3, kernel_initializer="zeros", bias_initializer=bias, name="fc")(x)
    return keras.Model(inputs, layers.Activation("softmax")(x))


def numpy(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


@pytest.fixture
def images():
    return np.random.default_rng(5).normal(3, 2, (8, 4)).astype("float32")


# the loss


@pytest.mark.jax
@pytest.mark.parametrize("one_hot", [False, True])
def test_a_label_of_next_to_no_probability_counts_in_full(images, one_hot):
    """e^-50 is far below the 1e-7 at which Keras clips probabilities."""
    labels = np.eye(3, dtype="float32")[[1] * 8] if one_hot else np.full(8, 1)
    model = Classifier(network([50.0, 0.0, -50.0]), keras.optimizers.SGD(1.0), one_hot)
    loss, accuracy = model.train_on_batch(images, labels)
    assert (loss, accuracy) == (pytest.approx(50), 0)
    bias = keras.ops.convert_to_numpy(model.network.get_layer("fc").bias)
    assert bias == pytest.approx([49, 1, -50])


@pytest.mark.jax
def test_labels_are_smoothed(images):
    labels = np.eye(3, dtype="float32")[[0] * 8]
    model = Classifier(network([2.0, 1.0, 0.0]), keras.optimizers.SGD(), True, label_smoothing=0.3)
    log_probabilities = np.array([2, 1, 0]) - np.log(np.exp([2, 1, 0]).sum())
    loss, _ = model.evaluate(images, labels, verbose=0)
    assert loss == pytest.approx(-log_probabilities @ [0.8, 0.1, 0.1])


@pytest.mark.jax
def test_no_batch_is_searched_for_layers(images, monkeypatch):
    """Keras searches what is set as an attribute, and on JAX sets all arrays after every batch."""
    model = Classifier(network(), keras.optimizers.SGD())
    searched = []
    track = model._tracker.track
    monkeypatch.setattr(model._tracker, "track", lambda value: searched.append(1) or track(value))

    def searched_in(batches):
        searched.clear()
        model.fit(np.repeat(images, batches, 0), np.zeros(8 * batches), batch_size=8, verbose=0)
        return len(searched)

    searched_in(1)
    assert searched_in(5) == searched_in(2)


@pytest.mark.jax
def test_the_network_gives_the_probabilities_of_the_classifiers_logits(images):
    model = Classifier(network([3.0, 1.0, 0.0]), keras.optimizers.SGD())
    logits = model.predict(images, verbose=0)
    np.testing.assert_allclose(logits, [[3, 1, 0]] * 8)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.network.predict(images, verbose=0), probabilities, rtol=1e-5)


@pytest.mark.needs("half precision")
def test_logits_are_float32_in_half_precision(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = Classifier(network(), keras.optimizers.SGD())
    keras.config.set_dtype_policy("float32")
    assert model.predict(images, verbose=0).dtype == np.float32


@pytest.mark.parametrize("last", [layers.Dense(3), layers.Dense(3, activation="softmax")])
def test_a_network_without_a_softmax_of_its_own_is_refused(last):
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match=f"must be a softmax, not {last.name}"):
        Classifier(keras.Model(inputs, last(inputs)), keras.optimizers.SGD())


def pooled(pool):
    inputs = keras.Input((8, 8, 2))
    x = layers.Flatten()(layers.AveragePooling2D(pool)(inputs))
    return keras.Model(inputs, layers.Activation("softmax")(x))


def test_a_network_that_pools_its_whole_map_takes_images_of_any_size():
    model = Classifier(pooled(8), keras.optimizers.SGD(), sizes_vary=True)
    for size in (8, 4, 10):
        images = np.random.default_rng(size).random((3, size, size, 2), dtype=np.float32)
        logits = model.predict_on_batch(images)
        np.testing.assert_allclose(logits, images.mean(axis=(1, 2)), rtol=1e-5)


def test_a_network_that_pools_parts_of_its_map_does_not():
    with pytest.raises(ValueError, match="pools its last map, 8x8, by parts of 4x4"):
        Classifier(pooled(4), keras.optimizers.SGD(), sizes_vary=True)


# averages of the statistics


@pytest.mark.jax
@pytest.mark.parametrize(
    "precision",
    ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.needs("half precision"))],
)
def test_the_statistics_are_averaged_by_step_once_their_start_is_forgotten(precision):
    keras.config.set_dtype_policy(precision)
    model = Classifier(network(), keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    keras.config.set_dtype_policy("float32")
    expected = None
    rng = np.random.default_rng(6)
    for step in range(12):
        model.train_on_batch(rng.normal(step, 1 + step, (8, 4)).astype("float32"), np.zeros(8))
        statistics = numpy(model.network.non_trainable_variables)
        if MOMENTUM**step > SHARE_OF_START:
            expected = statistics
        else:
            momentum = min(0.5, step / (step + 9))
            expected = [
                momentum * old + (1 - momentum) * new
                for old, new in zip(expected, statistics, strict=True)
            ]
        for ours, average in zip(numpy(model.averages), expected, strict=True):
            np.testing.assert_allclose(ours, average, rtol=1e-5)
    assert not np.allclose(numpy(model.averages)[0], statistics[0])


@pytest.mark.jax
def test_neither_evaluation_nor_prediction_changes_the_averages(images):
    model = Classifier(network(), keras.optimizers.SGD(0.1, use_ema=True))
    model.train_on_batch(images, np.zeros(8))
    before = numpy(model.weights)
    model.evaluate(images, np.zeros(8), verbose=0)
    model.predict(images, verbose=0)
    for old, new in zip(before, numpy(model.weights), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_averages_of_the_weights_there_are_none_of_the_statistics():
    model = Classifier(network(), keras.optimizers.SGD())
    assert model.averages == model.statistics == []
    assert len(model.weights) == len(model.network.weights)


# training


@pytest.mark.jax
def test_an_epoch_of_training_batches_ends_by_itself(tiny_network, tiny_images):
    batches = TrainingBatches(*tiny_images, 10)
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs=None: seen.append(batch)
    )
    tiny_network().fit(batches, epochs=2, callbacks=[callback], verbose=0)
    assert seen == [0, 1, 0, 1]
    seen.clear()
    tiny_network().fit(batches, steps_per_epoch=1, callbacks=[callback], verbose=0)
    assert seen == [0]
