"""A network while it is trained."""

import math
from typing import Any

import keras
from keras import ops

from pipeline.batches import TrainingBatches
from pipeline.errors import NetworkError
from pipeline.nn.spec import NetworkSpec
from pipeline.training.averaging import averaging_momentum

# Batch normalization's moving statistics start at 0 and 1. Averaging them begins once no more than
# this share of those values is left in them: a slow average would keep it for epochs.
SHARE_OF_START = 0.01


class Classifier(keras.Model):
    """What `fit` trains: a network's logits, and averages of its moving statistics.

    A network gives probabilities, as a saved model should. The loss is computed from the logits
    before its softmax: on JAX and PyTorch the gradient of a probability below 1e-7 would be zero.
    `predict` gives logits as well.

    Where the optimizer averages the weights (`use_ema`), batch normalization's moving statistics
    are averaged in the same way, since averaged weights need statistics that belong to them.

    Args:
        network: (batch, height, width, channels) to (batch, classes); its last layer is an
            `Activation("softmax")`.
        optimizer: trains the network and says how weights are averaged.
        one_hot: whether labels come as (batch, classes) and not as class ids.
        label_smoothing: share of a one-hot label that is spread over all classes
            (arXiv:1512.00567).
        spec: what the network is, for its checkpoints.
        sizes_vary: whether images come in other sizes than the network's in training, one size in
            a batch; the network has to end in a pool over the whole map.

    Raises:
        ValueError: the network does not end in a softmax.
        NetworkError: a ValueError: sizes vary, and it does not end in such a pool.

    Attributes:
        network, spec: as above. The network shares its layers with this model.
        statistics: the moving statistics that are averaged; empty without `use_ema`.
        averages: their averages, in the same order.
        steps: number of training steps, as float32; with `use_ema` only.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        one_hot: bool = False,
        label_smoothing: float = 0.0,
        spec: NetworkSpec | None = None,
        sizes_vary: bool = False,
    ):
        super().__init__(name="classifier")
        self.network, self.spec = network, spec
        softmax = network.layers[-1]
        if softmax.get_config().get("activation") != "softmax" or softmax.weights:
            raise ValueError(f"the last layer must be a softmax, not {softmax.name}")
        logits = keras.layers.Activation("linear", dtype="float32")(softmax.input)
        self._logits = keras.Model(network.inputs, logits)
        self._sizes_vary = sizes_vary
        if sizes_vary:  # the same layers, which no longer know the size
            images = keras.Input((None, None, network.input_shape[-1]))
            self._logits = keras.models.clone_model(self._logits, [images], _of_any_size)

        self.statistics, self.averages = [], []
        if optimizer.use_ema:
            self._average_statistics(optimizer.ema_momentum)

        self.built = True  # of layers that are
        if one_hot:
            loss = keras.losses.CategoricalCrossentropy(True, label_smoothing)
        else:
            loss = keras.losses.SparseCategoricalCrossentropy(True)
        # Sample weights reach the accuracy only as 0 or 1: see `compute_metrics`.
        self.compile(optimizer, loss, weighted_metrics=["accuracy"])

    def _average_statistics(self, momentum: float) -> None:
        normalizations = [
            layer
            for layer in self.network.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        for layer in normalizations:
            self.statistics += [layer.moving_mean, layer.moving_variance]
        untrained = {"trainable": False, "autocast": False}
        self.averages += [
            self.add_weight(shape=statistic.shape, name=f"average_{index}", **untrained)
            for index, statistic in enumerate(self.statistics)
        ]
        self.steps = self.add_weight(shape=(), initializer="zeros", name="steps", **untrained)
        self._momentum = momentum
        slowest = max((layer.momentum for layer in normalizations), default=0.0)
        self._first_step = math.ceil(math.log(SHARE_OF_START, slowest)) if slowest else 0

    def __setattr__(self, name: str, value: Any) -> None:
        # After every batch Keras's JAX trainer keeps all arrays in this attribute. Looking through
        # them for layers would take longer than a fast GPU takes for the batch.
        if name == "_jax_state":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Does what Keras's `fit` does; the epochs of `TrainingBatches` come exactly."""
        if isinstance(x, TrainingBatches):
            kwargs = {"steps_per_epoch": x.steps_per_epoch, "shuffle": False} | kwargs
            x = self.endless(x)
        return super().fit(x, *args, **kwargs)

    def compute_metrics(
        self,
        x: Any,
        y: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,
    ) -> dict:
        """Measures accuracy over all images alike, but for those of weight 0: these are padding."""
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight > 0, "float32")
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def endless(self, batches: TrainingBatches) -> Any:
        """Returns the batches of all epochs as what Keras's `fit` takes for one sequence."""
        if self._sizes_vary and keras.backend.backend() == "tensorflow":
            from pipeline.backend import tensorflow_only

            return tensorflow_only.batches_of_any_size(batches.endless())
        return batches.endless()

    def start_averages(self) -> None:
        """Lets the averages of statistics start from what the statistics are now."""
        for average, statistic in zip(self.averages, self.statistics, strict=True):
            average.assign(statistic)
        self.steps.assign(self.optimizer.iterations)

    def call(self, images: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        """Returns logits, float32 (batch, classes). In training, brings the averages up to date."""
        logits = self._logits(images, training=training)
        if training and self.averages:
            momentum = averaging_momentum(self._momentum, self.steps)
            momentum = ops.where(self.steps >= self._first_step, momentum, 0.0)
            for average, statistic in zip(self.averages, self.statistics, strict=True):
                average.assign(momentum * average + (1 - momentum) * statistic)
            self.steps.assign(self.steps + 1)
        return logits


def _of_any_size(layer: keras.layers.Layer) -> keras.layers.Layer:
    if not isinstance(layer, keras.layers.AveragePooling2D):
        return layer
    if layer.output.shape[1:3] != (1, 1):
        whole, part = (f"{w}x{h}" for h, w in (layer.input.shape[1:3], layer.pool_size))
        raise NetworkError(
            f"images cannot grow in training: the network pools its last map, {whole}, by parts of "
            f"{part}, not as a whole"
        )
    return keras.layers.GlobalAveragePooling2D(keepdims=True, name=layer.name)
