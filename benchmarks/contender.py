"""One contender of `python -m benchmarks`, in a process of its own: backends do not share one.

  KERAS_BACKEND=jax python -m benchmarks.contender keras --stages 9 9 9 --filters 64 64 128 256

It trains one step and says whether TensorFlow uses oneDNN; then for every line `WORK STEPS` that it
reads it does that many steps and answers with their seconds and the most memory it has ever held,
in bytes; all as JSON.
"""

import json
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from config import cifar10_config as config
from pipeline.backend import uses_onednn
from pipeline.command_line import script
from pipeline.command_line.options import (
    PRECISIONS,
    Parser,
    add_network_options,
    chosen_network,
    positive_int,
)
from pipeline.nn.spec import Architecture

OURS, KERAS, PYTORCH, PYTORCH_COMPILE = "ours", "keras", "pytorch", "pytorch-compile"
PREDICT_BATCH_SIZE = 256
Works = dict[str, Callable[[int], object]]


def main() -> None:
    # options
    parser = Parser(__doc__)
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
    works = contend(args, architecture, images, labels)
    works["train"](1)
    onednn = uses_onednn() if contend is _keras else None
    print(json.dumps({"onednn": onednn}), flush=True)
    for line in sys.stdin:
        work, steps = line.split()
        start = time.perf_counter()
        works[work](int(steps))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


def _keras(
    args: Namespace, architecture: Architecture, images: np.ndarray, labels: np.ndarray
) -> Works:
    if args.contender == KERAS:
        import keras  # before our start turns on oneDNN, which a user of Keras does not get
    from pipeline import backend

    with open("/dev/null", "w") as nowhere:
        stdout, sys.stdout = sys.stdout, nowhere
        backend.start(args.precision)
        sys.stdout = stdout
    import keras

    from pipeline.io.cifar10 import read_cifar10
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training.assembly import make_batches, make_classifier

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

    works = {"train": train, "predict": predict}
    if args.data:
        data = read_cifar10(args.data)
        preprocess = MeanPreprocessor(data.mean).preprocess
        batches, _ = make_batches(recipe, data, preprocess, workers=2)
        works["epoch"] = lambda steps: model.fit(
            batches, steps_per_epoch=steps, shuffle=False, verbose=0
        )
    return works


def _pytorch(
    args: Namespace, architecture: Architecture, images: np.ndarray, labels: np.ndarray
) -> Works:
    import torch

    from benchmarks.pytorch_resnet import PyTorchResNet

    def tensor(images: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(images.transpose(0, 3, 1, 2))
        return tensor.contiguous(memory_format=torch.channels_last)

    torch.manual_seed(0)
    model = PyTorchResNet(args.classes, architecture.stages, architecture.filters, args.stem)
    model = model.to(memory_format=torch.channels_last)
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
    half = torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "mixed_bfloat16")
    batch, targets = tensor(images[: args.batch_size]), torch.from_numpy(labels).long()
    unlabelled = tensor(images[:PREDICT_BATCH_SIZE])

    def train(steps: int) -> None:
        network.train()
        for _ in range(steps):
            optimizer.zero_grad()
            with half:
                loss = torch.nn.functional.cross_entropy(network(batch), targets)
            loss.backward()
            optimizer.step()

    def predict(steps: int) -> None:
        network.eval()
        with torch.inference_mode(), half:
            for _ in range(steps):
                network(unlabelled).softmax(dim=1)

    return {"train": train, "predict": predict}


if __name__ == "__main__":
    script.run(main)
