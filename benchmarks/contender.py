"""One contender of `python -m benchmarks`, in a process of its own: backends do not share one.

  KERAS_BACKEND=jax python -m benchmarks.contender keras --stages 9 9 9 --filters 64 64 128 256

It trains one step and says whether TensorFlow uses oneDNN, what GPUs there are, and how much a step
has to multiply and to copy at least; then for every line `WORK STEPS` that it reads it does that
many steps and answers with their seconds and the most memory it has ever held, in bytes; all as
JSON.
"""

import io
import json
import math
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from config import cifar10_config as config
from pipeline.backend import gpu_names, uses_onednn
from pipeline.command_line import script
from pipeline.command_line.options import (
    PRECISIONS,
    Parser,
    add_network_options,
    chosen_network,
    positive_int,
)
from pipeline.nn.spec import Architecture

if TYPE_CHECKING:
    import keras

OURS, KERAS, PYTORCH, PYTORCH_COMPILE = "ours", "keras", "pytorch", "pytorch-compile"
PREDICT_BATCH_SIZE = 256
Works = dict[str, Callable[[int], object]]


def main() -> None:
    # options
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.contender"
    add = parser.add_argument
    add("contender", choices=(OURS, KERAS, PYTORCH, PYTORCH_COMPILE))
    add_network_options(parser)
    add("--stem", default="cifar10", metavar="DATASET", help="default: %(default)s")
    add("--size", type=positive_int, default=32, metavar="PIXELS", help="default: %(default)s")
    add("--classes", type=positive_int, default=10, metavar="N", help="default: %(default)s")
    add("--batch-size", type=positive_int, default=128, metavar="N", help="default: %(default)s")
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="default: %(default)s")
    add("--data", metavar="PATH", help="CIFAR-10 for the work `epoch`, which ours alone has")
    args = parser.parse_args()
    stem = replace(config.NETWORK, stem=args.stem)
    architecture = chosen_network(parser, stem, args)

    rng = np.random.default_rng(0)
    count = max(args.batch_size, PREDICT_BATCH_SIZE)
    images = rng.normal(0, 60, (count, args.size, args.size, 3)).astype(np.float32)
    labels = rng.integers(0, args.classes, args.batch_size).astype(np.int32)
    contend = _keras if args.contender in (OURS, KERAS) else _pytorch
    works, told = contend(args, architecture, images, labels)
    works["train"](1)
    print(json.dumps(told), flush=True)
    for line in sys.stdin:
        work, steps = line.split()
        start = time.perf_counter()
        works[work](int(steps))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


def _keras(
    args: Namespace, architecture: Architecture, images: np.ndarray, labels: np.ndarray
) -> tuple[Works, dict]:
    if args.contender == KERAS:
        import keras  # before our start turns on oneDNN, which a user of Keras does not get
    from pipeline import backend

    with redirect_stdout(io.StringIO()):
        backend.start(args.precision)
    import keras

    from pipeline.io.cifar10 import read_cifar10
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training.assembly import make_classifier, make_training

    class Resident(keras.utils.PyDataset):
        """The same batch again and again."""

        def __init__(self, steps: int, *batch: np.ndarray):
            super().__init__()
            self.steps, self.batch = steps, batch

        @property
        def num_batches(self) -> int:
            return self.steps

        def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
            return self.batch

    names = tuple(map(str, range(args.classes)))
    spec = architecture.spec((args.size, args.size, 3), names, mean=None)
    recipe = replace(config.FAITHFUL, batch_size=args.batch_size)
    classifier, _ = make_classifier(recipe, spec, steps_per_epoch=1)
    network, model = classifier.network, classifier
    if args.contender == OURS:
        backend.accelerate(network, classifier.optimizer)
    else:
        model = network
        optimizer = keras.optimizers.SGD(recipe.learning_rate, momentum=recipe.momentum)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    def train(steps: int) -> None:
        batch = (images[: args.batch_size], labels)
        model.fit(Resident(steps, *batch), shuffle=False, verbose=0)

    def predict(steps: int) -> None:
        network.predict(Resident(steps, images[:PREDICT_BATCH_SIZE]), verbose=0)

    peak_works, amounts = _peak_works(bool(gpu_names()))
    works = {"train": train, "predict": predict, **peak_works}
    if args.data:
        data = read_cifar10(args.data)
        preprocess = MeanPreprocessor(data.mean).preprocess
        batches = make_training(recipe, data, preprocess, workers=2)
        works["epoch"] = lambda steps: model.fit(
            batches, steps_per_epoch=steps, shuffle=False, verbose=0
        )
    operations, moved = _least_work(network)
    step = {"multiply": operations, "copy": moved * (4 if args.precision == "float32" else 2)}
    return works, {
        "onednn": uses_onednn(),
        "gpus": gpu_names(),
        "a_step": {work: amount * args.batch_size for work, amount in step.items()},
        "a_peak_step": amounts,
    }


def _least_work(network: "keras.Model") -> tuple[int, int]:
    """Returns how much a training step has to do an image.

    Returns:
        The floating-point operations of convolutions and the classifier, forward and for both
        gradients; and the number of values moved if each of them and each normalization takes and
        gives its activations once forward and twice backward.
    """
    import keras

    operations = moved = 0
    for layer in network.layers:
        weighted = isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
        if weighted or isinstance(layer, keras.layers.BatchNormalization):
            given, taken = math.prod(layer.output.shape[1:]), math.prod(layer.input.shape[1:])
            moved += 3 * (given + taken)
        if weighted:
            kernel = math.prod(layer.kernel.shape[:-1])
            operations += 3 * 2 * kernel * given
    return operations, moved


def _peak_works(on_gpu: bool) -> tuple[Works, dict[str, int]]:
    """Returns works that show what a device can do, and how much of it a step of each asks for."""
    from keras import ops

    size = 8192 if on_gpu else 256
    matrix, vector = ops.ones((size, size), "bfloat16"), ops.ones((4 * size * size,), "float32")

    def multiply(steps: int) -> None:
        for _ in range(steps):
            product = ops.matmul(matrix, matrix)
        float(ops.convert_to_numpy(ops.cast(product[0, 0], "float32")))  # waits for the device

    def copy(steps: int) -> None:
        for _ in range(steps):
            total = vector + 1.0
        float(ops.convert_to_numpy(total[0]))

    works = {"multiply": multiply, "copy": copy}
    return works, {"multiply": 2 * size**3, "copy": 2 * 4 * len(vector)}


def _pytorch(
    args: Namespace, architecture: Architecture, images: np.ndarray, labels: np.ndarray
) -> tuple[Works, dict]:
    import torch

    from benchmarks.pytorch_resnet import PyTorchResNet

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def tensor(images: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(images.transpose(0, 3, 1, 2))
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.pin_memory() if device == "cuda" else tensor

    torch.manual_seed(0)
    model = PyTorchResNet(args.classes, architecture.stages, architecture.filters, args.stem)
    model = model.to(device, memory_format=torch.channels_last)
    # Keras's L2(r) adds r * sum(w ** 2) to the loss: a weight decay of 2r.
    kernels = {name: p for name, p in model.named_parameters() if p.ndim > 1}
    outer = [p for name, p in kernels.items() if name in ("parts.conv1.weight", "parts.fc.weight")]
    inner = [p for p in kernels.values() if all(p is not q for q in outer)]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [
            {"params": outer, "weight_decay": 2 * config.FAITHFUL.reg},
            {"params": inner, "weight_decay": 2 * config.FAITHFUL.module_reg},
            {"params": others},
        ],
        lr=0.1,
        momentum=config.FAITHFUL.momentum,
    )
    network = torch.compile(model) if args.contender == PYTORCH_COMPILE else model
    half = torch.autocast(device, torch.bfloat16, enabled=args.precision == "mixed_bfloat16")
    batch, targets = tensor(images[: args.batch_size]), torch.from_numpy(labels).long()
    unlabelled = tensor(images[:PREDICT_BATCH_SIZE])

    def train(steps: int) -> None:
        network.train()
        for _ in range(steps):
            # As Keras does: every batch comes from the host.
            inputs = batch.to(device, non_blocking=True)
            labels = targets.to(device, non_blocking=True)
            optimizer.zero_grad()
            with half:
                loss = torch.nn.functional.cross_entropy(network(inputs), labels)
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device

    def predict(steps: int) -> None:
        network.eval()
        with torch.inference_mode(), half:
            for _ in range(steps):
                # Keras's `predict` gives arrays.
                network(unlabelled.to(device)).softmax(dim=1).cpu()

    return {"train": train, "predict": predict}, {"onednn": None, "gpus": []}


if __name__ == "__main__":
    script.run(main)
