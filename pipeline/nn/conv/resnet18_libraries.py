"""ResNet-18 as libraries have it, without trained weights, to hold the one written here against."""

import keras
from keras import layers

from pipeline.errors import UserError
from pipeline.nn.conv.resnet18 import BLOCKS, FILTERS


def keras_hub_resnet18(width: int, height: int, depth: int, classes: int) -> keras.Model:
    """Builds KerasHub's ResNet-18; arguments and result are those of `ResNet18.build`.

    Raises:
        UserError: KerasHub is not installed.
    """
    try:
        from keras_hub.models import ResNetBackbone
    except ImportError as error:
        raise UserError(
            f"KerasHub's ResNet-18 cannot be built ({error}): "
            "install it: pip install '.[keras-hub]'"
        ) from error

    backbone = ResNetBackbone(
        input_conv_filters=FILTERS[:1],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=FILTERS,
        stackwise_num_blocks=BLOCKS,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(height, width, depth),
    )
    # Onto its output, not around it: a nested model's layers are out of sight of the checkpoints.
    x = layers.GlobalAveragePooling2D(name="avg_pool")(backbone.output)
    x = layers.Dense(classes, name="fc")(x)
    outputs = layers.Activation("softmax", dtype="float32", name="softmax")(x)
    return keras.Model(backbone.input, outputs, name="keras_hub_resnet18")


def torchvision_resnet18(width: int, height: int, depth: int, classes: int) -> keras.Model:
    """Builds torchvision's ResNet-18, for Keras's torch backend.

    Arguments and result are those of `ResNet18.build`. The whole network is one layer, which always
    computes in float32; a file of it can be loaded into a network built here, but not opened by
    `keras.models.load_model`.

    Raises:
        UserError: Keras runs on another backend.
    """
    if (backend := keras.backend.backend()) != "torch":
        raise UserError(f"torchvision's ResNet-18 runs on Keras's torch backend, not on {backend}")
    from torchvision.models import resnet18

    inputs = keras.Input((height, width, depth), name="image")
    x = layers.Permute((3, 1, 2), name="channels_first")(inputs)
    x = TorchModule(
        resnet18(num_classes=classes),
        output_shape=(None, classes),
        name="resnet18",
        dtype="float32",
    )(x)
    outputs = layers.Activation("softmax", dtype="float32", name="softmax")(x)
    return keras.Model(inputs, outputs, name="torchvision_resnet18")


class TorchModule(layers.TorchModuleWrapper):
    """A torch module as a Keras layer, all of whose state is Keras weights.

    Keras's own wrapper tracks a module's parameters, not the moving statistics of its batch
    normalization, which a checkpoint would then lose.
    """

    def __init__(self, module: object, **settings: object):
        from torch.nn import Parameter

        super().__init__(module, **settings)
        # A Parameter shares the memory of the buffer it is made from.
        self.statistics = [
            keras.Variable(Parameter(buffer, requires_grad=False), trainable=False)
            for buffer in self.module.buffers()
            if buffer.is_floating_point()
        ]

    def get_config(self) -> dict:
        """Leaves out the module, whose pickle does not fit into a file's header."""
        return {"name": self.name}
