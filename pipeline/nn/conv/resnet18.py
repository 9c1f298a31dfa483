"""The post-activation ResNet-18 of He et al., "Deep Residual Learning for Image Recognition"."""

import keras
from keras import layers

BLOCKS = (2, 2, 2, 2)
FILTERS = (64, 128, 256, 512)


class ResNet18:
    """Builds ResNet-18 (arXiv:1512.03385, table 1, shortcuts of option B).

    Padding and batch normalization are PyTorch's, so that the weights of other libraries'
    ResNet-18 fit without change: strided convolutions are padded alike on all sides, where
    Keras's "same" pads only below and to the right of images of even size.
    Layers are made and added in the order of KerasHub's, so that one seed gives both the same
    weights, and a list of weights means the same to both.
    """

    @staticmethod
    def basic_block(
        data: keras.KerasTensor,
        filters: int,
        stride: int = 1,
        bn_eps: float = 1e-5,
        bn_mom: float = 0.9,
        name: str = "block",
    ) -> keras.KerasTensor:
        """Adds one basic block to the graph: 3x3, BN, ReLU, 3x3, BN, addition, ReLU.

        The shortcut is a 1x1 projection with BN where the block changes the size or the number of
        channels, and the identity elsewhere.

        Args:
            data: input, (batch, height, width, channels).
            filters: channels of both convolutions and of the output.
            stride: stride of the first convolution and of the projection.
            bn_eps: epsilon of batch normalization.
            bn_mom: momentum of batch normalization's moving statistics, Keras's way round: one
                minus PyTorch's.
            name: prefix of the layers' names.

        Returns:
            The output, (batch, height / stride, width / stride, filters).
        """

        def normalization(suffix: str) -> layers.BatchNormalization:
            return layers.BatchNormalization(
                epsilon=bn_eps, momentum=bn_mom, name=f"{name}_{suffix}"
            )

        shortcut = data
        if stride != 1 or data.shape[-1] != filters:
            shortcut = _convolution(data, filters, 1, stride, name=f"{name}_shortcut")
            shortcut = normalization("shortcut_bn")(shortcut)
        branch = _convolution(data, filters, 3, stride, name=f"{name}_conv1")
        branch = layers.ReLU(name=f"{name}_relu1")(normalization("bn1")(branch))
        branch = _convolution(branch, filters, 3, 1, name=f"{name}_conv2")
        branch = normalization("bn2")(branch)
        total = layers.Add(name=f"{name}_add")([shortcut, branch])
        return layers.ReLU(name=f"{name}_relu2")(total)

    @staticmethod
    def build(
        width: int,
        height: int,
        depth: int,
        classes: int,
        bn_eps: float = 1e-5,
        bn_mom: float = 0.9,
    ) -> keras.Model:
        """Builds the network: ImageNet's stem, eight basic blocks, global average pool, softmax.

        Args:
            width: width of the images in pixels.
            height: height of the images in pixels.
            depth: channels of the images.
            classes: number of classes.
            bn_eps: epsilon of batch normalization.
            bn_mom: momentum of batch normalization's moving statistics.

        Returns:
            A functional model, (batch, height, width, depth) to (batch, classes) probabilities,
            of standard Keras layers only. As in the paper's table `conv1` is the stem,
            `conv{s}_{b}` block b of the stage whose number s starts at 2, and `fc` the classifier.

        Raises:
            ValueError: a size or the number of classes is below 1.

        Example:
            >>> ResNet18.build(32, 32, 3, 10).count_params()
            11191242
        """
        if min(width, height, depth, classes) < 1:
            raise ValueError(
                f"sizes and classes must be positive: got {width}x{height}x{depth} and {classes}"
            )
        inputs = keras.Input((height, width, depth), name="image")
        x = _convolution(inputs, FILTERS[0], 7, 2, name="conv1")
        x = layers.BatchNormalization(epsilon=bn_eps, momentum=bn_mom, name="conv1_bn")(x)
        x = layers.ReLU(name="conv1_relu")(x)
        # Behind a ReLU no zero of the padding can beat a pixel.
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)

        for stage, (blocks, filters) in enumerate(zip(BLOCKS, FILTERS, strict=True)):
            for block in range(blocks):
                x = ResNet18.basic_block(
                    x,
                    filters,
                    stride=2 if stage > 0 and block == 0 else 1,
                    bn_eps=bn_eps,
                    bn_mom=bn_mom,
                    name=f"conv{stage + 2}_{block + 1}",
                )

        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(classes, name="fc")(x)
        # Probabilities stay float32 under mixed precision: half the digits would not sum to 1.
        outputs = layers.Activation("softmax", dtype="float32", name="softmax")(x)
        return keras.Model(inputs, outputs, name="resnet18")


def _convolution(
    data: keras.KerasTensor, filters: int, kernel: int, stride: int, name: str
) -> keras.KerasTensor:
    padding = "same"
    if stride > 1 and kernel > 1:
        data = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(data)
        padding = "valid"
    # No bias: the batch normalization after every convolution would cancel it.
    return layers.Conv2D(
        filters, kernel, strides=stride, padding=padding, use_bias=False, name=name
    )(data)
