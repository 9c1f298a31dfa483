"""ResNet-18: its shape, and that other libraries' weights give it their outputs."""

import keras
import numpy as np
import pytest
from keras import layers

from pipeline.io.cifar10 import read_cifar10
from pipeline.nn.conv import ResNet18
from pipeline.preprocessing.scalepreprocessor import ScalePreprocessor

CLASSES = 10


@pytest.fixture(scope="module")
def network():
    return ResNet18.build(32, 32, 3, CLASSES)


@pytest.fixture(scope="module", params=["random", "real"])
def images(request):
    """8 images, (8, 32, 32, 3), pixels in 0..1."""
    if request.param == "random":
        return np.random.default_rng(1).random((8, 32, 32, 3), dtype=np.float32)
    data = read_cifar10(request.getfixturevalue("cifar10_sample"))
    return ScalePreprocessor().preprocess(data.val_images[::125])


def block(stride=1, channels=8, filters=8, **settings):
    data = keras.Input((8, 8, channels))
    return keras.Model(data, ResNet18.basic_block(data, filters, stride, name="b", **settings))


def part(model, first, last):
    """The network from the input of one layer to the output of another."""
    return keras.Model(model.get_layer(first).input, model.get_layer(last).output)


def sources(model, layer):
    """The layers whose outputs a layer takes in, by name."""
    node = model.get_layer(layer)._inbound_nodes[0]
    return [tensor._keras_history.operation.name for tensor in node.input_tensors]


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


# size


def test_it_has_11191242_parameters_of_which_11181642_are_trained(network):
    assert network.count_params() == 11_191_242
    assert sum(np.prod(weight.shape) for weight in network.trainable_weights) == 11_181_642
    assert network.output_shape == (None, CLASSES)


@pytest.mark.parametrize(("side", "maps"), [(32, (8, 4, 2, 1)), (224, (56, 28, 14, 7))])
def test_the_stem_divides_the_side_by_4_and_every_stage_after_the_first_by_2(side, maps):
    model = ResNet18.build(side, side, 3, CLASSES)
    shapes = [model.get_layer(f"conv{stage}_2_relu2").output.shape[1:] for stage in (2, 3, 4, 5)]
    channels = (64, 128, 256, 512)
    assert shapes == [(rows, rows, filters) for rows, filters in zip(maps, channels, strict=True)]


# the block


def test_a_block_is_convolution_bn_relu_convolution_bn_addition_relu():
    model = block()
    names = [layer.name for layer in model.layers[1:]]
    assert names == ["b_conv1", "b_bn1", "b_relu1", "b_conv2", "b_bn2", "b_add", "b_relu2"]
    kernels = {model.get_layer(name).kernel_size for name in ("b_conv1", "b_conv2")}
    assert kernels == {(3, 3)}
    assert sources(model, "b_add") == [model.layers[0].name, "b_bn2"]


@pytest.mark.parametrize("settings", [{"stride": 2}, {"channels": 4}])
def test_a_block_that_changes_the_shape_projects_its_input_with_bn(settings):
    model = block(**settings)
    stride = settings.get("stride", 1)
    projection = model.get_layer("b_shortcut")
    assert (projection.kernel_size, projection.strides) == ((1, 1), (stride, stride))
    assert sources(model, "b_shortcut") == [model.layers[0].name]
    assert sources(model, "b_shortcut_bn") == ["b_shortcut"]
    assert sources(model, "b_add") == ["b_shortcut_bn", "b_bn2"]
    assert model.get_layer("b_conv1").strides == (stride, stride)
    assert model.get_layer("b_conv2").strides == (1, 1)


def test_the_first_block_of_each_stage_but_the_first_projects(network):
    projections = [layer.name for layer in network.layers if layer.name.endswith("shortcut")]
    assert projections == ["conv3_1_shortcut", "conv4_1_shortcut", "conv5_1_shortcut"]
    strides = {network.get_layer(name).strides for name in projections}
    assert strides == {(2, 2)}


# PyTorch's padding


def test_strided_convolutions_are_centred_on_every_second_pixel_from_the_first():
    """With only its centre set, a kernel copies the pixels it is centred on."""
    data = np.random.default_rng(2).random((1, 8, 8, 3), dtype=np.float32)
    strided = block(stride=2, channels=3)
    for model, first, last in (
        (ResNet18.build(8, 8, 3, CLASSES), "conv1_pad", "conv1"),
        (strided, "b_conv1_pad", "b_conv1"),
        (strided, "b_shortcut", "b_shortcut"),
    ):
        convolution = model.get_layer(last)
        kernel = np.zeros(convolution.kernel.shape, np.float32)
        rows, columns = kernel.shape[:2]
        kernel[rows // 2, columns // 2, :, 0] = np.eye(3)[0]
        convolution.kernel.assign(kernel)
        copied = outputs(part(model, first, last), data)[..., 0]
        np.testing.assert_array_equal(copied, data[:, ::2, ::2, 0])


def test_the_max_pool_is_centred_on_every_second_pixel_from_the_first(network):
    maps = np.random.default_rng(3).random((1, 16, 16, 64), dtype=np.float32)
    pooled = outputs(part(network, "pool1_pad", "pool1"), maps)
    windows = [[maps[0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] for x in range(0, 16, 2)]
               for y in range(0, 16, 2)]  # fmt: skip
    expected = [[window.max(axis=(0, 1)) for window in row] for row in windows]
    np.testing.assert_array_equal(pooled[0], expected)


# what the layers are made with


def test_no_convolution_has_a_bias(network):
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    assert len(convolutions) == 20
    assert not any(convolution.use_bias for convolution in convolutions)


def test_batch_normalization_has_pytorchs_epsilon_and_momentum_or_those_asked_for(network):
    def settings(model):
        norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
        assert len(norms) == 20
        return {(norm.epsilon, norm.momentum) for norm in norms}

    assert settings(network) == {(1e-5, 0.9)}
    assert settings(ResNet18.build(32, 32, 3, CLASSES, 1e-3, 0.5)) == {(1e-3, 0.5)}


@pytest.mark.needs("half precision")
def test_probabilities_stay_float32_and_sum_to_one_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ResNet18.build(8, 8, 3, CLASSES)
    finally:
        keras.config.set_dtype_policy("float32")
    probabilities = outputs(model, np.ones((2, 8, 8, 3), "float32"))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_network_without_classes_is_refused():
    with pytest.raises(ValueError, match="got 32x32x3 and 0"):
        ResNet18.build(32, 32, 3, 0)


# behaviour


def test_one_step_changes_every_weight(tiny_images):
    """Every trainable weight gets a gradient, and every moving statistic sees the batch."""
    images, labels = tiny_images
    model = ResNet18.build(8, 8, 3, 4)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    model.train_on_batch(ScalePreprocessor().preprocess(images), labels)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    unchanged = [
        weight.path
        for weight, old, new in zip(model.weights, before, after, strict=True)
        if np.array_equal(old, new)
    ]
    assert unchanged == []


def test_a_saved_network_is_opened_by_plain_keras(network, tmp_path):
    images = np.random.default_rng(4).random((2, 32, 32, 3), dtype=np.float32)
    network.save(tmp_path / "model.hdf5")
    opened = keras.models.load_model(tmp_path / "model.hdf5")
    np.testing.assert_array_equal(outputs(opened, images), outputs(network, images))


# parity with other libraries: their weights, their outputs


def logits(model, images):
    """What goes into the softmax, which would hide differences."""
    return outputs(keras.Model(model.input, model.get_layer("fc").output), images)


def assert_logits_agree(network, images, expected):
    assert expected.shape == (len(images), CLASSES)
    assert expected.std(axis=0).min() > 0.3, "the images make no difference: a vain comparison"
    np.testing.assert_allclose(logits(network, images), expected, rtol=0, atol=1e-4)


def randomize(weights, rng):
    """Gives weights values that leave none of them, and no pixel, without effect."""
    for weight in weights:
        if weight.name == "kernel":
            values = rng.normal(0, (2 / np.prod(weight.shape[:-1])) ** 0.5, weight.shape)
        else:
            centre = 1 if weight.name in ("gamma", "moving_variance") else 0
            values = rng.uniform(centre - 0.5, centre + 0.5, weight.shape)
        weight.assign(values)


def test_with_keras_hubs_weights_it_gives_keras_hubs_logits(network, images):
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    from pipeline.nn.conv.resnet18_libraries import keras_hub_resnet18

    theirs = keras_hub_resnet18(32, 32, 3, CLASSES)
    randomize(theirs.weights, np.random.default_rng(5))
    network.set_weights(theirs.get_weights())
    assert_logits_agree(network, images, logits(theirs, images))


def test_with_a_torch_state_dict_it_gives_torchs_logits(network, images):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = torch_resnet18(torch)
    load_state_dict(network, theirs.state_dict())

    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    assert_logits_agree(network, images, expected.numpy())


def load_state_dict(network, state):
    """Gives the network the weights of a state dict with torchvision's names for ResNet-18."""
    names = {"conv1": "conv1", "conv1_bn": "bn1", "fc": "fc"}
    for stage in range(1, 5):
        for number in range(2):
            ours, their = f"conv{stage + 1}_{number + 1}", f"layer{stage}.{number}"
            names |= {f"{ours}_conv{i}": f"{their}.conv{i}" for i in (1, 2)}
            names |= {f"{ours}_bn{i}": f"{their}.bn{i}" for i in (1, 2)}
            names |= {f"{ours}_shortcut": f"{their}.downsample.0"}
            names |= {f"{ours}_shortcut_bn": f"{their}.downsample.1"}
    state = {name: value.numpy() for name, value in state.items()}
    for layer in network.layers:
        if not layer.weights:
            continue
        name = names[layer.name]
        if isinstance(layer, layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([state.pop(f"{name}.{part}") for part in parts])
            del state[f"{name}.num_batches_tracked"]
        elif isinstance(layer, layers.Conv2D):  # out, in, rows, columns -> rows, columns, in, out
            layer.set_weights([state.pop(f"{name}.weight").transpose(2, 3, 1, 0)])
        else:
            layer.set_weights([state.pop(f"{name}.weight").T, state.pop(f"{name}.bias")])
    assert not state, f"left over: {sorted(state)}"


def torch_resnet18(torch):
    """ResNet-18 of plain torch modules, named and padded as torchvision's."""
    nn = torch.nn

    class BasicBlock(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.downsample = nn.Identity()
            if stride != 1 or channels != filters:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, x):
            branch = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (branch + self.downsample(x)).relu()

    class TorchResNet18(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, 2, padding=1)
            stages = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
            self.layer1, self.layer2, self.layer3, self.layer4 = (
                nn.Sequential(BasicBlock(*stage), BasicBlock(stage[1], stage[1], 1))
                for stage in stages
            )
            self.fc = nn.Linear(512, CLASSES)

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean(dim=(2, 3)))

    torch.manual_seed(6)
    model = TorchResNet18()
    # Values that leave no weight and no pixel without effect.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.5, 0.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model
