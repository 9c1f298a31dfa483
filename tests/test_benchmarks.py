import importlib.util
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import data_path
from benchmarks.__main__ import CONTENDERS, IN_HALF, NETWORKS, RESNET_50
from benchmarks.contender import _least_work
from benchmarks.table import Row, markdown
from pipeline.backend import processor, uses_onednn
from pipeline.nn.conv import ResNet

pytestmark = pytest.mark.thorough

ALL_CONTENDERS = CONTENDERS | IN_HALF
TINY = ("--stages", 1, "--filters", 4, 8, "--size", 8, "--classes", 4, "--batch-size", 16)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)


def test_a_row_tells_medians_the_range_of_the_ratios_and_whether_the_goal_is_reached():
    faster = Row("a step, images/s", "Keras", [300, 200, 100], [100, 200, 200], (">=", 1.5))
    sooner = Row("a start, s", "Keras", [1, 3], [2, 4], ("<=", 0.7))
    assert markdown([faster, sooner]).splitlines()[2:] == [
        "| a step, images/s | 200 | Keras | 200 | 1.00 | 0.50 - 3.00 | >= 1.5 | no |",
        "| a start, s | 2 | Keras | 3 | 0.62 | 0.50 - 0.75 | <= 0.7 | yes |",
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[needs_torch] * (need == "torch") + [pytest.mark.slow] * (name in IN_HALF),
        )
        for name, (need, *_) in ALL_CONTENDERS.items()
    ],
)
def test_a_contender_trains_and_evaluates_as_it_is_told(name, run_python):
    need, contender, backend, precision = ALL_CONTENDERS[name]
    if importlib.util.find_spec(need) is None:
        pytest.skip(f"{need} is not installed")
    done = run_python(
        "-m",
        "benchmarks.contender",
        contender,
        *TINY,
        "--precision",
        precision,
        KERAS_BACKEND=backend,
        input="train 2\npredict 1\n",
    )
    assert done.returncode == 0, done.stderr
    ready, *answers = done.stdout.splitlines()
    on_tensorflow = backend == "tensorflow"
    assert json.loads(ready)["onednn"] == (uses_onednn() if on_tensorflow else None)
    train, predict = map(json.loads, answers)
    assert train["seconds"] > 0
    assert predict["peak"] >= train["peak"] > 2**27


def test_whole_epochs_are_ours(run_python, cifar10_sample):
    network = ("--stages", 1, "--filters", 4, 8, "--batch-size", 16, "--data", cifar10_sample)
    done = run_python("-m", "benchmarks.contender", "ours", *network, input="epoch 2\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[1])["seconds"] > 0


@needs_torch
@pytest.mark.parametrize("network", [*NETWORKS, RESNET_50], ids=lambda network: network.name)
def test_pytorchs_network_has_the_same_parameters(network):
    from benchmarks.pytorch_resnet import PyTorchResNet

    architecture = network.architecture
    theirs = PyTorchResNet(
        network.classes, architecture.stages, architecture.filters, architecture.stem
    )
    names = tuple(map(str, range(network.classes)))
    ours = architecture.spec((network.size, network.size, 3), names, mean=None).build()
    trainable = sum(np.prod(v.shape) for v in ours.trainable_variables)
    assert sum(p.numel() for p in theirs.parameters()) == trainable


@needs_torch
@pytest.mark.parametrize("stem", ["cifar10", "tiny_imagenet"])
def test_pytorchs_network_computes_the_same(stem):
    import torch

    from benchmarks.pytorch_resnet import PyTorchResNet

    size = 8 if stem == "cifar10" else 16
    ours = ResNet.build(size, size, 3, 4, (2,), (8, 16), dataset=stem)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (3, size, size, 3)).astype("float32")
    ours(10 * images, training=True)  # moves the statistics
    theirs = PyTorchResNet(4, (2,), (8, 16), stem).eval()
    for name, part in theirs.parts.items():
        weights = [torch.from_numpy(weight) for weight in ours.get_layer(name).get_weights()]
        tensors = [part.weight, part.bias]
        if name.endswith(("bn", "bn1", "bn2", "bn3")):
            tensors += [part.running_mean, part.running_var]
        for tensor, weight in zip(tensors, weights, strict=tensors[-1] is not None):
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]
            tensor.data.copy_(weight.permute(order))
    with torch.inference_mode():
        logits = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(logits.softmax(1), ours(images), atol=1e-5)


def test_above_the_table_stand_the_processor_and_who_uses_onednn(monkeypatch, tmp_path, capsys):
    """With the contenders that tell it, and without the measurements."""
    monkeypatch.setattr(processor, "name", lambda: "Example 9")
    monkeypatch.setattr(processor, "instruction_sets", lambda: ["AVX2", "AMX"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3})
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    row = Row("a step, images/s", "Keras", [3], [2], (">=", 1.25))
    for measure in ("_steps", "_epoch"):
        monkeypatch.setattr(benchmarks, measure, lambda *_: [])
    monkeypatch.setattr(benchmarks, "_start", lambda repeats: row)
    monkeypatch.setattr(data_path, "rows", lambda *_: [])
    for name in ("cifar10", "tiny-imagenet-200"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "argv", ["benchmarks", str(tmp_path)])
    benchmarks.main()
    above, table = capsys.readouterr().out.split("\n\n")
    assert above.splitlines() == [
        "processor: Example 9, AVX2, AMX, 2 cores",
        "oneDNN of TensorFlow: off in ours, off in Keras on TensorFlow",
    ]
    assert table == f"{markdown([row])}\n"


def test_of_each_contender_it_is_told_whether_it_uses_onednn(monkeypatch):
    class Contender:
        def __init__(self, name, network):
            self.told = {"onednn": name == "ours"}

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(benchmarks, "Contender", Contender)
    told = "oneDNN of TensorFlow: on in ours, off in Keras on TensorFlow"
    assert benchmarks._onednn() == told


def test_on_a_gpu_training_is_set_against_what_the_device_can_do(monkeypatch):
    """Without one here, so that the shares are those of the processor."""
    tiny = replace(benchmarks.RESNET_56.architecture, stages=(1,), filters=(4, 8))
    network = benchmarks.RESNET_56._replace(architecture=tiny, size=8)
    monkeypatch.setattr(benchmarks, "RESNET_56", network)
    monkeypatch.setattr(benchmarks, "GPU_BATCH_SIZES", (8,))
    *above, columns, _, row = benchmarks._gpu(Namespace(repeats=1, seconds=1)).splitlines()
    assert above[0].startswith("GPU: ")
    names, cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (columns, row))
    told = dict(zip(names, cells, strict=True))
    assert told["batch"] == "8"
    assert float(told[names[1]].replace(",", "")) > 0
    assert float(told["first step, s"]) > 0
    for share in ("of the arithmetic", "of the bandwidth"):  # of so little, rounded to nothing
        assert re.fullmatch(r"\d+\.\d%", told[share])
    assert (
        bool(told[names[2]])
        == bool(told["their first step, s"])
        == bool(importlib.util.find_spec("torch"))
    )


def test_the_least_work_of_a_step_is_counted_layer_by_layer():
    network = ResNet.build(8, 8, 3, 4, (1,), (4, 8), dataset="cifar10")
    positions, module = 8 * 8, 4 * 2 + 9 * 2 * 2 + 2 * 8 + 4 * 8  # 1x1, 3x3, 1x1 and the shortcut
    multiplications = positions * (9 * 3 * 4 + module) + 8 * 4
    operations, moved = _least_work(network)
    assert operations == 3 * 2 * multiplications
    normalized = positions * 2 * (3 + 4 + 2 + 2 + 8)
    convolved = positions * (3 + 4 + 4 + 2 + 2 + 2 + 2 + 8 + 4 + 8) + 8 + 4
    assert moved == 3 * (normalized + convolved)


@pytest.mark.slow
def test_the_whole_table(miniatures):
    command = ["-m", "benchmarks", str(miniatures), "--repeats", "1", "--seconds", "1"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    above, table = done.stdout.split("\n\n")
    assert re.match(r"processor: .+\noneDNN of TensorFlow: on in ours, ", above)
    rows = table.splitlines()[2:]
    assert len(rows) >= 3 + 1 + 3 + 2 * 2 + 1 + 2 + 5
    assert all(re.search(r"\| (yes|no) \|$", row) for row in rows)
