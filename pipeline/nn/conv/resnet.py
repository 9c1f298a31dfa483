"""The pre-activation ResNet of He et al., "Identity Mappings in Deep Residual Networks"."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import layers

from pipeline.errors import NetworkError
from pipeline.nn.spec import check_stages


class _Stem(NamedTuple):
    """The opening of the network, which depends on the size of a data set's images."""

    kernel: int
    stride: int
    max_pool: bool
    """Whether BN, ReLU and a 3x3 max pool of stride 2 follow the convolution."""
    final_pool: int | None
    """Side of the average pool in front of the classifier; None where it takes the whole map."""


STEMS = {
    "cifar10": _Stem(kernel=3, stride=1, max_pool=False, final_pool=8),
    "tiny_imagenet": _Stem(kernel=5, stride=1, max_pool=True, final_pool=8),
    "imagenet": _Stem(kernel=7, stride=2, max_pool=True, final_pool=None),
}


class ResNet:
    """Builds pre-activation bottleneck ResNets (arXiv:1603.05027, figure 4(e) and appendix)."""

    @staticmethod
    def residual_module(
        data: keras.KerasTensor,
        filters: int,
        stride: int,
        red: bool = False,
        reg: float = 1e-4,
        bn_eps: float = 2e-5,
        bn_mom: float = 0.9,
        name: str = "module",
        zero_init: bool = False,
    ) -> keras.KerasTensor:
        """Adds one bottleneck residual module to the graph.

        Three times BN, ReLU, convolution: 1x1 to a quarter of the filters, 3x3 with the module's
        stride, 1x1 to all of them. A projection shortcut is taken from the first activation, so
        that it sees normalized values, as in section 3 of the paper's appendix.

        Args:
            data: input, (batch, height, width, channels).
            filters: channels of the output, a multiple of 4.
            stride: stride of the 3x3 convolution and of the projection.
            red: whether the shortcut is a 1x1 projection; needed wherever the module changes the
                size or the number of channels.
            reg: L2 factor of the convolutions' kernels.
            bn_eps: epsilon of batch normalization.
            bn_mom: momentum of batch normalization's moving statistics.
            name: prefix of the layers' names.
            zero_init: whether the branch's last convolution starts at zero, so that the module
                starts as its shortcut.

        Returns:
            The output, (batch, height / stride, width / stride, filters).

        Raises:
            NetworkError: a ValueError: `filters` is not a positive multiple of 4, or the shapes of
                shortcut and branch differ because `red` is missing.
        """
        if filters < 4 or filters % 4:
            raise NetworkError(
                f"filters must be a multiple of 4 (the bottleneck has a quarter), not {filters}"
            )
        if not red and (stride != 1 or data.shape[-1] != filters):
            raise NetworkError(
                f"{name}: a module from {data.shape[-1]} to {filters} channels with stride "
                f"{stride} needs a projection (red=True)"
            )

        def activation(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
            x = layers.BatchNormalization(
                epsilon=bn_eps, momentum=bn_mom, name=f"{name}_bn{number}"
            )(x)
            return layers.ReLU(name=f"{name}_relu{number}")(x)

        def convolution(
            x: keras.KerasTensor, channels: int, kernel: int, stride: int, suffix: str
        ) -> keras.KerasTensor:
            initializer = "zeros" if zero_init and suffix == "conv3" else "glorot_uniform"
            return _convolution(
                channels, kernel, stride, reg, name=f"{name}_{suffix}", initializer=initializer
            )(x)

        activated = activation(data, 1)
        branch = convolution(activated, filters // 4, 1, 1, "conv1")
        branch = convolution(activation(branch, 2), filters // 4, 3, stride, "conv2")
        branch = convolution(activation(branch, 3), filters, 1, 1, "conv3")
        shortcut = convolution(activated, filters, 1, stride, "shortcut") if red else data
        return layers.Add(name=f"{name}_add")([branch, shortcut])

    @staticmethod
    def build(
        width: int,
        height: int,
        depth: int,
        classes: int,
        stages: Sequence[int],
        filters: Sequence[int],
        reg: float = 1e-4,
        bn_eps: float = 2e-5,
        bn_mom: float = 0.9,
        dataset: str = "cifar10",
        module_reg: float = 1e-4,
        zero_init: bool = False,
    ) -> keras.Model:
        """Builds the network: BN on the input, a stem, the stages, BN, ReLU, average pool, softmax.

        Args:
            width: width of the images in pixels.
            height: height of the images in pixels.
            depth: channels of the images.
            classes: number of classes.
            stages: number of residual modules in each stage.
            filters: channels of the stem, then of each stage; one more than `stages`.
            reg: L2 factor of the stem's and the classifier's kernels.
            bn_eps: epsilon of batch normalization.
            bn_mom: momentum of batch normalization's moving statistics.
            dataset: which stem to open with, a key of `STEMS`.
            module_reg: L2 factor of the residual modules' kernels.
            zero_init: whether the last convolution of every residual branch starts at zero.

        Returns:
            A functional model, (batch, height, width, depth) to (batch, classes) probabilities,
            of standard Keras layers only. As in the papers' tables `conv1` is the stem,
            `conv{s}_{m}` module m of the stage whose number s starts at 2, and `fc` the classifier.

        Raises:
            NetworkError: a ValueError: lengths, sizes or names do not fit together; the message
                shows them.

        Example:
            >>> ResNet.build(32, 32, 3, 10, (9, 9, 9), (64, 64, 128, 256)).count_params()
            886102
        """
        stages, filters = tuple(stages), tuple(filters)
        if dataset not in STEMS:
            raise NetworkError(f"dataset must be one of {', '.join(STEMS)}, not {dataset!r}")
        check_stages(stages, filters)
        if classes < 1:
            raise NetworkError(f"classes {classes} must be positive")
        stem = STEMS[dataset]

        inputs = keras.Input((height, width, depth), name="image")
        x = layers.BatchNormalization(epsilon=bn_eps, momentum=bn_mom, name="input_bn")(inputs)
        x = _convolution(filters[0], stem.kernel, stem.stride, reg, name="conv1")(x)
        if stem.max_pool:
            x = layers.BatchNormalization(epsilon=bn_eps, momentum=bn_mom, name="conv1_bn")(x)
            x = layers.ReLU(name="conv1_relu")(x)
            x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
            x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)

        for stage, (modules, channels) in enumerate(zip(stages, filters[1:], strict=True)):
            for module in range(modules):
                x = ResNet.residual_module(
                    x,
                    channels,
                    stride=2 if stage > 0 and module == 0 else 1,
                    red=module == 0,
                    reg=module_reg,
                    bn_eps=bn_eps,
                    bn_mom=bn_mom,
                    name=f"conv{stage + 2}_{module + 1}",
                    zero_init=zero_init,
                )

        rows, columns = x.shape[1:3]
        if stem.final_pool:
            pool = layers.AveragePooling2D(stem.final_pool, name="avg_pool")
        else:
            pool = layers.GlobalAveragePooling2D(keepdims=True, name="avg_pool")
        if stem.final_pool and (rows % stem.final_pool or columns % stem.final_pool):
            raise NetworkError(
                f"{width}x{height} images leave a {columns}x{rows} map after {len(stages)} stages, "
                f"which the {stem.final_pool}x{stem.final_pool} average pool cannot divide"
            )
        x = layers.BatchNormalization(epsilon=bn_eps, momentum=bn_mom, name="bn")(x)
        x = layers.ReLU(name="relu")(x)
        x = pool(x)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(classes, kernel_regularizer=keras.regularizers.L2(reg), name="fc")(x)
        # Probabilities stay float32 under mixed precision: half the digits would not sum to 1.
        outputs = layers.Activation("softmax", dtype="float32", name="softmax")(x)
        return keras.Model(inputs, outputs, name="resnet")


def _convolution(
    filters: int,
    kernel: int,
    stride: int,
    reg: float,
    name: str,
    initializer: str = "glorot_uniform",
) -> layers.Conv2D:
    # No bias: the batch normalization after every convolution would cancel it.
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
        kernel_regularizer=keras.regularizers.L2(reg),
        name=name,
    )
