"""Measure training, evaluation, start-up, memory and the data path beside what else one would use.

  python -m benchmarks
  python -m benchmarks --gpu

Forty minutes on two cores; `--gpu` measures training alone, on a GPU and any of Keras's backends,
in five minutes. The contenders take turns, each in a process of its own: stock Keras
on TensorFlow, and Keras on JAX, Keras on PyTorch and PyTorch itself where they are installed. The
table has medians and the range of the ratios, one a turn; absolute figures depend on the machine
and on what else it does.
"""

# Tried, and left out because it did not pay (ResNet-56, batch 128, 2 cores):
# - XLA on the CPU: slower than none.
# - one inter-op thread, huge pages, TensorFlow's BFC allocator, malloc that never gives back:
#   within the noise.
# - 1x1 convolutions as matrix products: the same speed, forward and both gradients.
# - the L2 terms left out altogether: the same speed.
# - batch normalization folded into the kernels of the convolutions before it, to evaluate:
#   TensorFlow's graph optimizer fuses them anyway.
# - the update of batch normalization's statistics in fewer operations: the same start and step.
# - Python's garbage collector less often, or not at all: 3% of the start.
# - one resampling (cv2.remap) of a batch's images as one tall image instead of one for each image:
#   the same processor time.
# - on AVX2: smaller batches, whose tensors stay in the last-level cache: from 16 to 128 images a
#   batch the same images a second, so that cutting the work between two batch normalizations into
#   pieces of that size would gain nothing; and there is no page fault left to save.
# What is left of the training step are oneDNN's convolutions and batch normalizations: with AVX-512
# at the memory's bandwidth; with AVX2 the convolutions alone take three quarters of it, at 45 to 90
# of the 150 GFLOP/s that a large matrix product reaches, their filter gradients the slowest.

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks import data_path
from benchmarks.contender import KERAS, OURS, PREDICT_BATCH_SIZE, PYTORCH, PYTORCH_COMPILE
from benchmarks.table import Row, machine, markdown
from config import cifar10_config, imagenet_config, images_config, tiny_imagenet_config
from pipeline.backend import BACKENDS
from pipeline.command_line import script
from pipeline.command_line.options import Parser, positive_int
from pipeline.errors import UserError
from pipeline.nn.spec import Architecture


class Network(NamedTuple):
    """What is trained, and the ratio to stock Keras that the training step is to reach."""

    name: str
    architecture: Architecture
    size: int
    classes: int
    batch_size: int
    goal: float

    def arguments(self) -> list[str]:
        """Returns the contender's options."""
        options = {
            "--stages": self.architecture.stages,
            "--filters": self.architecture.filters,
            "--stem": [self.architecture.stem],
            "--size": [self.size],
            "--classes": [self.classes],
            "--batch-size": [self.batch_size],
        }
        return [str(x) for option, values in options.items() for x in (option, *values)]


RESNET_56 = Network(
    "ResNet-56",
    cifar10_config.NETWORK,
    32,
    10,
    cifar10_config.FAITHFUL.batch_size,
    goal=2.0,
)
NETWORKS = (
    RESNET_56,
    RESNET_56._replace(
        name="16-16-32-64",
        architecture=replace(cifar10_config.NETWORK, filters=(16, 16, 32, 64)),
        goal=2.1,
    ),
    Network(
        "Tiny ImageNet",
        tiny_imagenet_config.NETWORK,
        tiny_imagenet_config.IMAGE_SIZE,
        tiny_imagenet_config.NUM_CLASSES,
        tiny_imagenet_config.FAITHFUL.batch_size,
        goal=1.5,
    ),
)
# Trained alone, in batches that leave room in memory for all contenders.
RESNET_50 = Network(
    "ResNet-50",
    images_config.NETWORKS["resnet50"],
    imagenet_config.IMAGE_SIZE,
    classes=1000,
    batch_size=16,
    goal=1.25,
)

OWN = "ours"
STOCK = "Keras on TensorFlow"
EAGER = "PyTorch, eager, channels last"
COMPILED = "PyTorch, compiled, channels last"
# Which package each needs, its contender, its backend and its precision.
Contenders = dict[str, tuple[str, str, str, str]]
CONTENDERS: Contenders = {
    OWN: ("tensorflow", OURS, "tensorflow", "float32"),
    STOCK: ("tensorflow", KERAS, "tensorflow", "float32"),
    "Keras on JAX": ("jax", KERAS, "jax", "float32"),
    "Keras on PyTorch": ("torch", KERAS, "torch", "float32"),
    EAGER: ("torch", PYTORCH, "torch", "float32"),
    COMPILED: ("torch", PYTORCH_COMPILE, "torch", "float32"),
}
HALF = "mixed_bfloat16"
IN_HALF = {f"{name}, {HALF}": (*CONTENDERS[name][:3], HALF) for name in (OWN, STOCK, EAGER)}
BACKEND = os.environ.get("KERAS_BACKEND") or next(filter(find_spec, BACKENDS))
OWN_ON_GPU, COMPILED_ON_GPU = f"{OWN} on {BACKEND}", f"{COMPILED}, autocast"
ON_GPU: Contenders = {
    OWN_ON_GPU: (BACKEND, OURS, BACKEND, HALF),
    COMPILED_ON_GPU: ("torch", PYTORCH_COMPILE, "torch", HALF),
}
GPU_BATCH_SIZES = (128, 512, 1024)
CIFAR10_IMAGES = 50_000


class Contender:
    """A process that has trained its first step and waits for work; it ends with the block."""

    def __init__(self, name: str, network: Network, data: Path | None = None):
        _, contender, backend, precision = (CONTENDERS | IN_HALF | ON_GPU)[name]
        command = [sys.executable, "-m", "benchmarks.contender", contender, *network.arguments()]
        command += ["--precision", precision]
        if data:
            command += ["--data", str(data)]
        self.name = name
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            # JAX would take most of a GPU's memory, before PyTorch has any.
            env=os.environ
            | {
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            },
        )
        self.told = json.loads(self._answer())
        self.first_step = time.perf_counter() - start

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()
        self._complaints.close()

    def do(self, work: str, steps: int) -> dict[str, float]:
        """Returns the `seconds` of some steps and the `peak` memory so far."""
        self._process.stdin.write(f"{work} {steps}\n")
        self._process.stdin.flush()
        return json.loads(self._answer())

    def _answer(self) -> str:
        answer = self._process.stdout.readline()
        if not answer:
            self._complaints.seek(0)
            last = (self._complaints.read().strip().splitlines() or ["without a word"])[-1]
            raise UserError(f"benchmarks.contender, {self.name}, has ended: {last}")
        return answer


def main() -> None:
    # options
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks"
    add = parser.add_argument
    default = data_path.DEFAULT_FOLDER
    add("folder", nargs="?", default=default, metavar="FOLDER", help=data_path.FOLDER_HELP)
    add("--repeats", type=positive_int, default=5, metavar="N", help="turns (default: %(default)s)")
    add("--seconds", type=positive_int, default=5, metavar="S", help="of a turn (5)")
    add("--gpu", action="store_true", help="measure training on a GPU; needs no data")
    args = parser.parse_args()
    if args.gpu:
        print(f"{machine()}\n{_gpu(args)}")
        return
    cifar10, tiny_imagenet = data_path.folders(args.folder)

    rows = []
    for network in NETWORKS:
        names = CONTENDERS if network is RESNET_56 else (OWN, STOCK)
        print(f"training {network.name}", file=sys.stderr)
        rows += _steps(args, network, "train", names)
    print(f"training {RESNET_50.name}", file=sys.stderr)
    rows += _steps(args, RESNET_50, "train", (OWN, STOCK, EAGER))
    for network in NETWORKS:
        print(f"evaluating {network.name}", file=sys.stderr)
        rows += _steps(args, network, "predict", (OWN, STOCK, EAGER))
    for work in ("train", "predict"):
        print(f"{HALF}, {work}", file=sys.stderr)
        rows += _steps(args, RESNET_56, work, (*IN_HALF, OWN))
    print("starting", file=sys.stderr)
    rows.append(_start(args.repeats))
    print("whole epochs and memory", file=sys.stderr)
    rows += _epoch(args, cifar10)
    print("the data path", file=sys.stderr)
    rows += data_path.rows(cifar10, tiny_imagenet, args.repeats)

    # report
    print(f"{machine()}\n{_onednn()}\n\n{markdown(rows)}")


def _onednn() -> str:
    """Tells which of the contenders on TensorFlow compute with oneDNN."""
    tiny = RESNET_56._replace(
        architecture=replace(RESNET_56.architecture, stages=(1,), filters=(4, 8)),
        size=8,
        batch_size=2,
    )
    told = []
    for name in (OWN, STOCK):
        with Contender(name, tiny) as contender:
            told.append(f"{'on' if contender.told['onednn'] else 'off'} in {name}")
    return f"oneDNN of TensorFlow: {', '.join(told)}"


def _gpu(args: Namespace) -> str:
    """Returns a table of training in half precision, a row for each batch size."""
    columns = (
        "batch",
        f"{OWN_ON_GPU}, images/s",
        COMPILED_ON_GPU,
        "ratio",
        "from - to",
        "an epoch of CIFAR-10, s",
        "first step, s",
        "their first step, s",
        "of the arithmetic",
        "of the bandwidth",
    )
    lines = [f"| {' | '.join(columns)} |", "| ---: " * len(columns) + "|"]
    names = [name for name, (package, *_) in ON_GPU.items() if find_spec(package)]
    for batch_size in GPU_BATCH_SIZES:
        print(f"batch {batch_size}", file=sys.stderr)
        network = RESNET_56._replace(batch_size=batch_size)
        with contextlib.ExitStack() as stack:
            contenders = [stack.enter_context(Contender(name, network)) for name in names]
            ours, *others = contenders
            rates, *their_rates = _rates(contenders, "train", batch_size, args).values()
            rate = statistics.median(rates)
            cells = [f"{batch_size:,}", f"{rate:,.0f}"]
            if others:
                ratios = [a / b for a, b in zip(rates, their_rates[0], strict=True)]
                cells.append(f"{statistics.median(their_rates[0]):,.0f}")
                cells.append(f"{statistics.median(ratios):.2f}")
                cells.append(f"{min(ratios):.2f} - {max(ratios):.2f}")
            else:
                cells += ["", "", ""]
            cells += [f"{CIFAR10_IMAGES / rate:.1f}", f"{ours.first_step:.1f}"]
            cells.append(f"{others[0].first_step:.1f}" if others else "")
            for work, amount in ours.told["a_step"].items():
                share = rate / batch_size * amount / _peak(ours, work)
                cells.append(f"{share:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    gpus = ", ".join(ours.told["gpus"]) or "none"
    return "\n".join([f"GPU: {gpus}", "", *lines])


def _peak(contender: Contender, work: str) -> float:
    """Returns how much of a simple work the device does in a second."""
    contender.do(work, 2)
    return contender.told["a_peak_step"][work] * 20 / contender.do(work, 20)["seconds"]


def _steps(args: Namespace, network: Network, work: str, names: Iterable[str]) -> list[Row]:
    """Compares ours, the first of the names, with those of the others that are installed."""
    packages = {name: package for name, (package, *_) in (CONTENDERS | IN_HALF).items()}
    names = [name for name in names if find_spec(packages[name])]
    batch_size = {"train": network.batch_size, "predict": PREDICT_BATCH_SIZE}[work]
    with contextlib.ExitStack() as stack:
        contenders = [stack.enter_context(Contender(name, network)) for name in names]
        rates = _rates(contenders, work, batch_size, args)
    title = {"train": "training step", "predict": "evaluation"}[work]
    goals = {STOCK: network.goal} if work == "train" else {STOCK: 1.2, EAGER: 1.0}
    ours, *others = names
    how = f", {HALF}" if ours in IN_HALF else ""
    return [
        Row(
            f"{title}, {network.name}{how}, batch {batch_size}, images/s",
            f"{OWN}, float32" if name == OWN else name,
            rates[ours],
            rates[name],
            (">=", goals.get(name, 1.25)),
        )
        for name in others
    ]


def _rates(
    contenders: Sequence[Contender], work: str, batch_size: int, args: Namespace
) -> dict[str, list[float]]:
    """Returns the images a second of each contender, a figure a turn."""
    rates = {contender.name: [] for contender in contenders}
    steps = [_steps_in(contender, work, args.seconds) for contender in contenders]
    for _ in range(args.repeats):
        for contender, count in zip(contenders, steps, strict=True):
            seconds = contender.do(work, count)["seconds"]
            rates[contender.name].append(count * batch_size / seconds)
    return rates


def _steps_in(contender: Contender, work: str, seconds: float) -> int:
    contender.do(work, 1)  # compiles
    contender.do(work, 1)
    return max(2, round(seconds / contender.do(work, 1)["seconds"]))


def _start(repeats: int) -> Row:
    seconds = {OWN: [], STOCK: []}
    for _ in range(repeats):
        for name, taken in seconds.items():
            with Contender(name, RESNET_56) as contender:
                taken.append(contender.first_step)
    work = "from the process's start to the end of its first training step, ResNet-56, s"
    return Row(work, STOCK, *seconds.values(), ("<=", 0.7))


def _epoch(args: Namespace, cifar10: Path) -> list[Row]:
    with Contender(OWN, RESNET_56, cifar10) as ours, Contender(STOCK, RESNET_56) as stock:
        rates = {"epoch": [], "train": []}
        steps = _steps_in(ours, "train", args.seconds)
        ours.do("epoch", 1)
        for _ in range(args.repeats):
            for work, measured in rates.items():
                seconds = ours.do(work, steps)["seconds"]
                measured.append(steps * RESNET_56.batch_size / seconds)
        gigabytes = [ours.do("epoch", 2)["peak"] / 1e9], [stock.do("train", 4)["peak"] / 1e9]
    return [
        Row(
            "training on CIFAR-10 with data and augmentation, ResNet-56, images/s",
            "our step on a resident batch",
            *rates.values(),
            (">=", 0.97),
        ),
        Row(
            "most memory held, CIFAR-10's images included, ResNet-56, GB",
            f"{STOCK}, a resident batch",
            *gigabytes,
            ("<=", round(1 + 0.3 / gigabytes[1][0], 2)),
        ),
    ]


if __name__ == "__main__":
    script.run(main)
