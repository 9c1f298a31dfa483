"""All that is specific to the TensorFlow backend; the other backends never import it."""

from __future__ import annotations

import functools
import itertools
import platform
import types

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port  # nothing public tells of oneDNN

from pipeline.backend.devices import Devices

# On a CPU, oneDNN normalizes half precision fast only in multiples of so many channels; any other
# number takes five to fifteen times as long as in float32.
HALF_PRECISION_CHANNELS = 16


def grow_gpu_memory() -> None:
    """Lets TensorFlow take a GPU's memory as it needs it, instead of all of it at the start."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def gpu_names() -> list[str]:
    """Returns the names of the GPUs TensorFlow sees."""
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [detail.get("device_name", "GPU") for detail in details]


def devices(limit: int | None) -> Devices:
    """Returns the devices to train on: all GPUs, or else the CPU's logical devices.

    Args:
        limit: how many of them; all that there are if left out.
    """
    names = gpu_names()[:limit]
    kind = "GPU" if names else "CPU"
    used = [device.name for device in tf.config.list_logical_devices(kind)[:limit]]
    names = tuple(names or [platform.machine()] * len(used))
    if len(used) == 1:
        return Devices(names)
    return Devices(names, scope=_strategy(*used).scope)


@functools.cache
def _strategy(*devices: str) -> tf.distribute.Strategy:
    # A second one on the same devices would number its exchanges as the first does.
    return tf.distribute.MirroredStrategy(devices)


def uses_onednn() -> bool:
    """Returns whether TensorFlow has decided, at its import, to compute with oneDNN."""
    return _pywrap_util_port.IsMklEnabled()


def batches_of_any_size(batches: keras.utils.PyDataset) -> tf.data.Dataset:
    """Returns endless batches whose images may change their size.

    Given the batches themselves, Keras would expect of all of them the size of the first two.
    """
    _, labels = batches[0]
    signature = (
        tf.TensorSpec((None, None, None, 3), tf.float32),
        tf.TensorSpec((None, *labels.shape[1:]), labels.dtype),
    )
    every = tf.data.Dataset.from_generator(
        lambda: map(batches.__getitem__, itertools.count()), output_signature=signature
    )
    return every.prefetch(tf.data.AUTOTUNE)


def int8_settings(images: np.ndarray) -> dict:
    """Returns what makes `keras.Model.export` write a LiteRT network that computes in int8.

    Args:
        images: as the network takes them, (n, height, width, channels); the ranges that its
            activations have on them become those of the integers.
    """
    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([image[np.newaxis]] for image in images),
        "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
    }


def use_fused_kernels(
    network: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
) -> None:
    """Lets batch normalization, additions and an optimizer's updates run on fused kernels.

    Keras 3 builds batch normalization from a dozen elementwise operations, which on a CPU take
    half of the training step of a ResNet; and the update of a weight of half a dozen, which for
    hundreds of weights take seconds to trace. Only the computation is replaced: layers and
    optimizer stay Keras's own with the same variables, so that files and checkpoints do not tell
    the difference.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    normalize = _normalize if replicas == 1 else _normalize_together
    for layer in network.layers:
        if _is_fusable_normalization(layer):
            layer.call = types.MethodType(normalize, layer)
        elif type(layer) is keras.layers.Add and len(layer.input) == 2:
            zeros = tf.zeros(layer.output.shape[-1:], layer.compute_dtype)
            zeros = tf.Variable(zeros, trainable=False)
            layer.call = functools.partial(_add, zeros)
    if replicas > 1 and isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.check_finite = types.MethodType(_finite_everywhere, optimizer)
    if type(optimizer) is keras.optimizers.SGD and optimizer.momentum:
        optimizer.update_step = types.MethodType(_update, optimizer)


def _is_fusable_normalization(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.variable_dtype == "float32"
        and layer.axis in (-1, 3)
        and len(layer.input.shape) == 4
        and layer.scale
        and layer.center
        and not (layer.renorm or layer.synchronized)
    )


def _normalize(
    layer: keras.layers.BatchNormalization,
    inputs: tf.Tensor,
    training: bool | None = None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    training = bool(training and layer.trainable)
    if inputs.shape[-1] % HALF_PRECISION_CHANNELS:
        inputs = tf.cast(inputs, tf.float32)
    statistics = (layer.moving_mean.value, layer.moving_variance.value)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=layer.gamma.value,
        offset=layer.beta.value,
        mean=tf.zeros([0]) if training else statistics[0],
        variance=tf.zeros([0]) if training else statistics[1],
        epsilon=layer.epsilon,
        is_training=training,
    )
    if training:
        # The kernel's variance is the sample's, n / (n - 1) of the population's that Keras keeps.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
        new = (mean, variance * (count - 1) / count)
        for variable, value in zip((layer.moving_mean, layer.moving_variance), new, strict=True):
            variable.assign(variable * layer.momentum + value * (1 - layer.momentum))
    return tf.cast(outputs, layer.compute_dtype)


def _normalize_together(
    layer: keras.layers.BatchNormalization,
    inputs: tf.Tensor,
    training: bool | None = None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """Normalizes by the statistics of the batches of all replicas, which are of one size.

    Keras's own `synchronized=True` would be written into model files, which other backends then
    refuse, and takes three exchanges where one is enough.
    """
    if not (training and layer.trainable):
        return _normalize(layer, inputs, training)
    inputs = tf.cast(inputs, tf.float32)
    mean, variance = tf.nn.moments(inputs, [0, 1, 2])
    # Means are taken relative to one that is near, so that the difference of their squares is as
    # exact as they are.
    near = tf.identity(layer.moving_mean.value)
    distance = mean - near
    context = tf.distribute.get_replica_context()
    distance, square, variance = tf.unstack(
        context.all_reduce("MEAN", tf.stack([distance, distance**2, variance]))
    )
    mean, variance = near + distance, variance + square - distance**2
    for variable, value in (layer.moving_mean, mean), (layer.moving_variance, variance):
        variable.assign(variable * layer.momentum + value * (1 - layer.momentum))
    scale, offset = layer.gamma.value, layer.beta.value
    outputs = tf.nn.batch_normalization(inputs, mean, variance, offset, scale, layer.epsilon)
    return tf.cast(outputs, layer.compute_dtype)


def _add(zeros: tf.Variable, inputs: list[tf.Tensor]) -> tf.Tensor:
    """Adds two tensors, within the convolution's kernel where the first is a convolution's.

    TensorFlow fuses a convolution with a sum after it only if a bias comes between, and it drops
    a bias that it knows to be zero; of a variable's value it knows nothing.
    """
    branch, shortcut = inputs
    if not tf.executing_eagerly() and branch.op.type == "Conv2D":
        branch = tf.nn.bias_add(branch, tf.stop_gradient(zeros))
    return branch + shortcut


def _finite_everywhere(
    optimizer: keras.optimizers.LossScaleOptimizer, gradients: list[tf.Tensor]
) -> tf.Tensor:
    """Tells whether the gradients of all replicas are finite.

    Keras asks the first replica alone, as if they had been summed by then.
    """
    finite = type(optimizer).check_finite(optimizer, gradients)
    infinite = tf.cast(tf.logical_not(finite), tf.float32)
    return tf.distribute.get_replica_context().all_reduce("SUM", infinite) == 0


def _update(
    optimizer: keras.optimizers.SGD,
    gradient: tf.Tensor,
    variable: tf.Variable,
    learning_rate: tf.Tensor,
) -> None:
    momentum = optimizer.momentums[optimizer._get_variable_index(variable)]
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=momentum.value.handle,
        lr=learning_rate,
        grad=gradient,
        momentum=optimizer.momentum,
        use_nesterov=optimizer.nesterov,
    )
