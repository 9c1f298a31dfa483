import keras
import numpy as np
import pytest
from keras import layers

from pipeline.nn.conv import ResNet

RESNET_56 = ((9, 9, 9), (64, 64, 128, 256))


@pytest.fixture(scope="module")
def resnet_56():
    return ResNet.build(32, 32, 3, 10, *RESNET_56, reg=5e-4)


@pytest.fixture(scope="module")
def tiny_imagenet():
    return ResNet.build(
        64, 64, 3, 200, (3, 4, 6), (64, 128, 256, 512), reg=5e-4, dataset="tiny_imagenet"
    )


def module(stride=1, red=True, channels=8, filters=8, **settings):
    data = keras.Input((8, 8, channels))
    return keras.Model(
        data, ResNet.residual_module(data, filters, stride, red, name="m", **settings)
    )


def source(model, layer):
    """The layers whose outputs a layer takes in, by name."""
    node = model.get_layer(layer)._inbound_nodes[0]
    return [tensor._keras_history.operation.name for tensor in node.input_tensors]


def path(model, last, first):
    """The layers from `first` to `last`, following each layer's first input backwards."""
    names = [last]
    while names[-1] != first:
        names.append(source(model, names[-1])[0])
    return names[::-1]


# size


def test_resnet_56_has_the_originals_886102_parameters(resnet_56):
    assert resnet_56.count_params() == 886_102
    assert resnet_56.output_shape == (None, 10)


def test_the_first_experiments_network_has_60790_parameters():
    assert ResNet.build(32, 32, 3, 10, (9, 9, 9), (16, 16, 32, 64)).count_params() == 60_790


def test_the_tiny_imagenet_network_has_2265748_parameters(tiny_imagenet):
    assert tiny_imagenet.count_params() == 2_265_748
    assert tiny_imagenet.output_shape == (None, 200)


def test_stages_after_the_first_halve_the_map(resnet_56):
    shapes = [resnet_56.get_layer(f"conv{stage}_9_add").output.shape[1:] for stage in (2, 3, 4)]
    assert shapes == [(32, 32, 64), (16, 16, 128), (8, 8, 256)]


def test_the_tiny_imagenet_stem_pads_by_one_and_pools_by_two(tiny_imagenet):
    names = [layer.name for layer in tiny_imagenet.layers[:7]]
    assert names == [
        "image",
        "input_bn",
        "conv1",
        "conv1_bn",
        "conv1_relu",
        "pool1_pad",
        "pool1",
    ]
    stem, pool = tiny_imagenet.get_layer("conv1"), tiny_imagenet.get_layer("pool1")
    assert (stem.kernel_size, stem.strides) == ((5, 5), (1, 1))
    assert (pool.pool_size, pool.strides) == ((3, 3), (2, 2))
    assert pool.output.shape[1:] == (32, 32, 64)


def test_the_imagenet_stem_leaves_an_eighth_by_the_second_stage():
    model = ResNet.build(224, 224, 3, 10, (1, 1, 1, 1), (4, 4, 8, 8, 8), dataset="imagenet")
    assert model.get_layer("conv1").output.shape[1:3] == (112, 112)
    assert model.get_layer("pool1").output.shape[1:3] == (56, 56)
    assert model.get_layer("conv5_1_add").output.shape[1:3] == (7, 7)


@pytest.mark.parametrize(("width", "height"), [(224, 224), (64, 64), (100, 75)])
def test_the_imagenet_stem_is_for_images_of_any_size_with_the_same_weights(width, height):
    model = ResNet.build(width, height, 3, 10, (1, 1), (4, 8, 16), dataset="imagenet")
    before, after = model.get_layer("avg_pool").input, model.get_layer("avg_pool").output
    assert before.shape[1:3] == (-(-height // 8), -(-width // 8))
    assert after.shape[1:] == (1, 1, 16)
    at_224 = ResNet.build(224, 224, 3, 10, (1, 1), (4, 8, 16), dataset="imagenet")
    assert [w.shape for w in model.weights] == [w.shape for w in at_224.weights]


def test_resnet_50_of_imagenet_has_25595060_parameters():
    filters = (64, 256, 512, 1024, 2048)
    model = ResNet.build(224, 224, 3, 1000, (3, 4, 6, 3), filters, dataset="imagenet")
    assert model.count_params() == 25_595_060


# the module


def test_a_branch_is_three_times_bn_relu_convolution():
    model = module(filters=8)
    branch = path(model, "m_conv3", first="m_bn1")
    assert branch == [
        f"m_{kind}{number}" for number in (1, 2, 3) for kind in ("bn", "relu", "conv")
    ]
    kinds = [type(model.get_layer(name)) for name in branch]
    assert kinds == [layers.BatchNormalization, layers.ReLU, layers.Conv2D] * 3
    convolutions = [model.get_layer(f"m_conv{number}") for number in (1, 2, 3)]
    assert [conv.filters for conv in convolutions] == [2, 2, 8]
    assert [conv.kernel_size for conv in convolutions] == [(1, 1), (3, 3), (1, 1)]


def test_only_the_3x3_convolution_and_the_projection_stride():
    model = module(stride=2)
    strides = {x.name: x.strides for x in model.layers if isinstance(x, layers.Conv2D)}
    assert strides == {
        "m_conv1": (1, 1),
        "m_conv2": (2, 2),
        "m_conv3": (1, 1),
        "m_shortcut": (2, 2),
    }


def test_the_projection_is_taken_from_the_first_activation_not_from_the_input():
    assert source(module(), "m_shortcut") == ["m_relu1"]


def test_without_projection_the_shortcut_is_the_input_itself():
    model = module(red=False)
    assert source(model, "m_add") == ["m_conv3", model.layers[0].name]


def test_an_identity_module_with_zeroed_last_convolution_changes_nothing():
    model = module(red=False)
    model.get_layer("m_conv3").kernel.assign(np.zeros((1, 1, 2, 8)))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype("float32")
    np.testing.assert_array_equal(model.predict(images, verbose=0), images)


def test_every_stage_opens_with_a_projection_and_has_no_other(resnet_56):
    projections = [layer.name for layer in resnet_56.layers if "shortcut" in layer.name]
    assert projections == ["conv2_1_shortcut", "conv3_1_shortcut", "conv4_1_shortcut"]


def test_the_networks_end_is_bn_relu_pool_dense_softmax(resnet_56):
    names = ["bn", "relu", "avg_pool", "flatten", "fc", "softmax"]
    assert [layer.name for layer in resnet_56.layers[-6:]] == names
    assert resnet_56.get_layer("avg_pool").pool_size == (8, 8)


# what the layers are made with


def test_no_convolution_has_a_bias(resnet_56, tiny_imagenet):
    for model in (resnet_56, tiny_imagenet):
        convolutions = [x for x in model.layers if isinstance(x, layers.Conv2D)]
        assert len(convolutions) > 30
        assert not any(convolution.use_bias for convolution in convolutions)


def test_batch_normalization_has_the_originals_epsilon_and_momentum(resnet_56, tiny_imagenet):
    for model in (resnet_56, tiny_imagenet):
        norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
        assert len(norms) > 30
        assert {(norm.epsilon, norm.momentum) for norm in norms} == {(2e-5, 0.9)}


def test_stem_and_classifier_are_regularized_by_reg_and_modules_by_their_default(resnet_56):
    factors = {
        layer.name: float(layer.kernel_regularizer.l2)
        for layer in resnet_56.layers
        if getattr(layer, "kernel_regularizer", None)
    }
    assert len(factors) == 3 * 9 * 3 + 3 + 2
    assert factors.pop("conv1") == pytest.approx(5e-4)
    assert factors.pop("fc") == pytest.approx(5e-4)
    assert list(factors.values()) == pytest.approx([1e-4] * (3 * 9 * 3 + 3))


def test_settings_reach_every_layer():
    model = ResNet.build(8, 8, 3, 4, (1,), (4, 8), 0.1, 1e-3, 0.5, "cifar10", 0.2)
    norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-3, 0.5)}
    factors = {x.name: x.kernel_regularizer.l2 for x in model.layers if hasattr(x, "kernel")}
    outside = (factors.pop("conv1"), factors.pop("fc"))
    assert outside == pytest.approx((0.1, 0.1))
    assert list(factors.values()) == pytest.approx([0.2] * 4)


@pytest.mark.needs("half precision")
def test_probabilities_stay_float32_and_sum_to_one_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ResNet.build(8, 8, 3, 10, (1,), (4, 8))
    finally:
        keras.config.set_dtype_policy("float32")
    probabilities = keras.ops.convert_to_numpy(model(np.ones((2, 8, 8, 3), "float32")))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


# behaviour


def test_one_step_changes_every_weight(tiny_images):
    """Every trainable weight gets a gradient, and every moving statistic sees the batch."""
    images, labels = tiny_images
    # Without L2, whose own gradient would hide a weight that the loss does not reach.
    model = ResNet.build(8, 8, 3, 4, (2,), (8, 16), reg=0, module_reg=0)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    model.train_on_batch(images.astype("float32"), labels)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    unchanged = [
        weight.path
        for weight, old, new in zip(model.weights, before, after, strict=True)
        if np.array_equal(old, new)
    ]
    assert unchanged == []


def test_a_saved_network_is_opened_by_plain_keras(tmp_path, tiny_network, tiny_images):
    images = tiny_images[0].astype("float32")
    network = tiny_network().network
    for name in ("model.hdf5", "model.keras"):
        network.save(tmp_path / name)
        opened = keras.models.load_model(tmp_path / name, compile=False)
        np.testing.assert_array_equal(
            network.predict(images, verbose=0), opened.predict(images, verbose=0)
        )


# refusals show what came in


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": (16, 16, 32)}, r"got 3 filters \(16, 16, 32\) for 3 stages \(1, 1, 1\)"),
        ({"stages": ()}, r"got 4 filters .* for 0 stages \(\)"),
        ({"stages": (1, 0, 1)}, r"stages \(1, 0, 1\).*must be positive"),
        ({"filters": (0, 16, 32, 64)}, r"filters \(0, 16, 32, 64\).*must be positive"),
        ({"filters": (16, 16, 30, 64)}, "multiple of 4 .* not 30"),
        ({"classes": 0}, "classes 0 must be positive"),
        ({"dataset": "mnist"}, "one of cifar10, tiny_imagenet, imagenet, not 'mnist'"),
        ({"width": 40}, "40x32 images leave a 10x8 map after 3 stages, .* 8x8 average pool"),
        ({"width": 16, "height": 16}, "16x16 images leave a 4x4 map"),
    ],
)
def test_a_network_that_cannot_be_is_refused(settings, message):
    fitting = {
        "width": 32,
        "height": 32,
        "depth": 3,
        "classes": 10,
        "stages": (1, 1, 1),
        "filters": (16, 16, 32, 64),
    }
    with pytest.raises(ValueError, match=message):
        ResNet.build(**fitting | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 6}, "multiple of 4 .* not 6"),
        ({"red": False, "stride": 2}, "m: a module from 8 to 8 channels with stride 2 needs"),
        ({"red": False, "channels": 3}, "m: a module from 3 to 8 channels with stride 1 needs"),
    ],
)
def test_a_module_whose_sum_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        module(**settings)


# initial values


def test_with_zero_init_every_module_starts_as_its_shortcut():
    model = ResNet.build(32, 32, 3, 10, (2, 2, 2), (16, 16, 32, 64), zero_init=True)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    adds = [layer for layer in model.layers if isinstance(layer, layers.Add)]
    assert len(adds) == 6
    for add in adds:
        branch, shortcut = add.input
        outputs = keras.Model(model.input, [branch, shortcut, add.output])
        branch, shortcut, output = outputs.predict(images, verbose=0)
        assert not branch.any()
        assert shortcut.any()
        np.testing.assert_array_equal(output, shortcut)


@pytest.mark.parametrize(("zero_init", "count"), [(True, 27), (False, 0)])
def test_zero_init_concerns_no_other_kernels_and_no_parameter_count(zero_init, count):
    model = ResNet.build(32, 32, 3, 10, *RESNET_56, zero_init=zero_init)
    assert model.count_params() == 886_102
    kernels = [variable for variable in model.weights if variable.path.endswith("/kernel")]
    zero = [kernel.path for kernel in kernels if not kernel.numpy().any()]
    assert len(zero) == count
    assert all(path.endswith("_conv3/kernel") for path in zero)
