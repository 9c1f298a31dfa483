"""The fused kernels against Keras's own layers, a layer at a time and in the network."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the fused kernels are TensorFlow's", allow_module_level=True)

import tensorflow as tf
from tensorflow.python.eager.context import context

from pipeline.backend import processor, uses_onednn
from pipeline.backend.tensorflow_only import HALF_PRECISION_CHANNELS, use_fused_kernels
from pipeline.nn.conv import ResNet

pytestmark = pytest.mark.numerics

# The largest relative error of a rounded number.
ROUNDING = {"mixed_bfloat16": 2**-8, "mixed_float16": 2**-11}


def normalization(fused: bool, channels: int = 7, **options) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((6, 5, channels)), keras.layers.BatchNormalization(**options)]
    )
    layer = model.layers[0]
    rng = np.random.default_rng(0)
    layer.gamma.assign(rng.uniform(0.5, 2, channels))
    layer.beta.assign(rng.normal(0, 1, channels))
    layer.moving_mean.assign(rng.normal(0, 1, channels))
    layer.moving_variance.assign(rng.uniform(0.5, 2, channels))
    if fused:
        use_fused_kernels(model)
        assert "call" in vars(layer), "the layer was not given the fused kernel"
    return model


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(3, 2, (4, 6, 5, 7)).astype("float32")


def state(model: keras.Model, x: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x, training=training)
        loss = tf.reduce_sum(outputs**3)
    gradients = tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)])
    names = ["outputs", "image gradient", "gamma gradient", "beta gradient"]
    values = dict(zip(names, [outputs, *gradients], strict=True))
    return values | {v.name: v.value for v in model.variables}


@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_moving_statistics_are_those_of_keras(images, training):
    stock, fused = (
        state(normalization(fused, epsilon=2e-5, momentum=0.9), tf.constant(images), training)
        for fused in (False, True)
    )
    for name, value in stock.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(fused[name] / scale, value / scale, atol=2e-6, err_msg=name)


@pytest.mark.needs("half precision")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [7, HALF_PRECISION_CHANNELS])
@pytest.mark.parametrize("precision", ROUNDING)
def test_in_half_precision_they_are_keras_s_but_for_rounding(precision, channels, training):
    images = np.random.default_rng(1).normal(3, 2, (4, 6, 5, channels))
    stock, fused = (
        state(
            normalization(fused, channels, epsilon=2e-5, momentum=0.9, dtype=precision),
            tf.constant(images, keras.DTypePolicy(precision).compute_dtype),
            training,
        )
        for fused in (False, True)
    )
    for name, value in stock.items():
        assert fused[name].dtype == value.dtype
        value, other = (tf.cast(tensor, tf.float32).numpy() for tensor in (value, fused[name]))
        # The statistics and the affine weights have been in float32 throughout.
        tolerance = 2e-6 if name.startswith("moving") else 4 * ROUNDING[precision]
        scale = np.abs(value).max()
        np.testing.assert_allclose(other / scale, value / scale, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("channels", "precision"), [(7, tf.float32), (HALF_PRECISION_CHANNELS, tf.bfloat16)]
)
def test_the_kernel_gets_half_precision_only_where_it_is_fast(channels, precision):
    model = normalization(fused=True, channels=channels, dtype="mixed_bfloat16")
    graph = tf.function(model).get_concrete_function(tf.zeros((4, 6, 5, channels))).graph
    kernels = [node for node in graph.get_operations() if node.type == "FusedBatchNormV3"]
    assert [node.inputs[0].dtype for node in kernels] == [precision]


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_variables_of_another_precision_are_left_to_keras(precision):
    layer = keras.layers.BatchNormalization(dtype=precision)
    use_fused_kernels(keras.Sequential([keras.Input((4, 4, 3)), layer]))
    assert "call" not in vars(layer)


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

    use_fused_kernels(model)
    assert model.get_config() == config
    for suffix in ("hdf5", "keras"):
        model.save(tmp_path / f"model.{suffix}")
        loaded = keras.models.load_model(tmp_path / f"model.{suffix}")
        layers = {type(layer) for layer in loaded.layers}
        assert all(layer.__module__.startswith("keras.") for layer in layers)
        np.testing.assert_allclose(loaded.predict(x, verbose=0), stock, atol=1e-5)
    np.testing.assert_allclose(model(x), stock, atol=1e-5)


@pytest.fixture(
    params=[
        "float32",
        pytest.param("mixed_bfloat16", marks=pytest.mark.needs("half precision")),
    ]
)
def residual(request):
    """A convolution's output and its input, added."""
    keras.config.set_dtype_policy(request.param)
    inputs = keras.Input((6, 5, 4))
    branch = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    outputs = keras.layers.Add(name="add")([branch, inputs])
    keras.config.set_dtype_policy("float32")
    return keras.Model(inputs, outputs)


def test_a_sum_behind_a_convolution_is_the_same_and_has_the_same_gradients(residual, images):
    x = tf.constant(images[..., :4])

    def outputs_and_gradients(variables):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = residual(x)
            loss = tf.reduce_sum(outputs**3)
        return [outputs, *tape.gradient(loss, [x, *variables])]

    variables = [v.value for v in residual.trainable_variables]
    stock = tf.function(outputs_and_gradients)(variables)
    use_fused_kernels(residual)
    fused = tf.function(outputs_and_gradients)(variables)
    tolerance = {"float32": 2e-6, "bfloat16": 2 * ROUNDING["mixed_bfloat16"]}
    for a, b in zip(stock, fused, strict=True):
        assert a.dtype == b.dtype
        a, b = (tf.cast(tensor, tf.float32).numpy() for tensor in (a, b))
        atol = tolerance[residual.layers[-1].compute_dtype]
        np.testing.assert_allclose(a / np.abs(a).max(), b / np.abs(a).max(), atol=atol)


def kernels(function, x: tf.Tensor) -> list[str]:
    """Returns what convolutions and additions TensorFlow makes of a function."""
    context().enable_run_metadata()
    tf.function(function)(x)
    graphs = context().export_run_metadata().function_graphs
    context().disable_run_metadata()
    graph = graphs[-1].post_optimization_graph
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return sorted(node.op for node in nodes if "Conv" in node.op or "Add" in node.op)


def test_a_sum_is_fused_with_the_convolution_before_it_where_a_biased_one_would_be(
    residual, images
):
    """Nothing but speed would tell if a version of TensorFlow did not fuse them any more."""
    convolution = residual.layers[1]
    kernel = tf.cast(convolution.kernel.value, convolution.compute_dtype)
    bias = tf.Variable(tf.ones(4, kernel.dtype))

    def biased(x):
        x = tf.cast(x, kernel.dtype)
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias) + x

    x = tf.constant(images[..., :4])
    use_fused_kernels(residual)
    ours = kernels(residual, x)
    assert ours == kernels(biased, x)
    if uses_onednn() and "AVX-512" in processor.instruction_sets():
        assert ours == ["_FusedConv2D"]


@pytest.mark.parametrize("nesterov", [False, True])
def test_weights_are_updated_as_keras_does(residual, images, nesterov):
    start, results = residual.get_weights(), []
    for fused in (False, True):
        residual.set_weights(start)
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov)
        residual.compile(optimizer, "mse")
        if fused:
            use_fused_kernels(residual, optimizer)
            assert "update_step" in vars(optimizer), "the optimizer was not given the fused kernel"
        x = images[..., :4]
        residual.fit(x, np.sin(x), epochs=5, verbose=0)
        results.append([*residual.get_weights(), *(v.numpy() for v in optimizer.variables)])
    assert not np.allclose(results[0][0], start[0])
    for stock, fused in zip(*results, strict=True):
        np.testing.assert_allclose(fused, stock, rtol=1e-4, atol=1e-6)


def test_an_optimizer_without_momentum_is_left_to_keras(residual):
    optimizer = keras.optimizers.SGD(0.1)
    use_fused_kernels(residual, optimizer)
    assert "update_step" not in vars(optimizer)
