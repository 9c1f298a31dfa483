"""Processes that train together, on this machine, come to what one process comes to.

Real scripts on the JAX backend, which exchange their sums over Gloo, as on CPUs of many machines.
"""

import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from forkedscript import write_pictures
from processes import EXIT_STATUS, ROOT, finish, run, start

pytest.importorskip("jax")
pytestmark = pytest.mark.thorough

SCRIPT = "resnet_cifar10_decay.py"
HISTORY = "resnet_cifar10_decay.json"
CHECKPOINTS = "checkpoints_decay"
# Relative: sums of float32 are taken in another order.
TOLERANCE = 1e-3
MINUTE = 60  # in which the others end if one does


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    os.environ["JAX_PLATFORMS"] = "cpu"
    data = write_pictures(tmp_path_factory.mktemp("data"))
    network = ["--stages", 1, "--filters", 4, 8, "--batch-size", 12, "--every", 1]
    return ["--data", data, *network, "--recipe", "modern", "--epochs", 3]


def start_together(count, *options, different=(), last=(SCRIPT,)):
    """Starts processes that train together, the last of them with different options or script."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = ["--coordinator", f"localhost:{port}", "--processes", count]
    return [
        start(
            *(last if process == count - 1 else (SCRIPT,)),
            *(*options, *together, "--process", process),
            *(different if process == count - 1 else ()),
            backend="jax",
        )
        for process in range(count)
    ]


def run_together(count, *options):
    """Runs processes to their end; returns what the first has printed, which alone may."""
    chief, *others = map(finish, start_together(count, *options))
    for done in (chief, *others):
        assert done.returncode == 0, done.stderr
    assert {done.stdout for done in others} <= {""}
    return chief.stdout


def history(output):
    return json.loads((output / HISTORY).read_text())


def assert_close(output, expected):
    ours, theirs = history(output), history(expected)
    assert ours.keys() == theirs.keys()
    for measure, values in ours.items():
        assert values == pytest.approx(theirs[measure], rel=TOLERANCE), measure


@pytest.fixture(scope="module")
def alone(options, tmp_path_factory):
    """The output folder of one process."""
    output = tmp_path_factory.mktemp("alone")
    run(SCRIPT, *options, "-o", output, backend="jax")
    return output


@pytest.fixture(scope="module")
def both(options, tmp_path_factory):
    """The output folder of two processes."""
    output = tmp_path_factory.mktemp("both")
    printed = run_together(2, *options, "-o", output)
    assert "batch 12 = 2 x 6" in printed
    return output


def begun(origin, output):
    """Makes a run that has come to the first epoch of another."""
    (output / CHECKPOINTS).mkdir(parents=True)
    shutil.copy(origin / CHECKPOINTS / "epoch_1.hdf5", output / CHECKPOINTS)
    return output


def test_two_processes_come_to_what_one_does(both, alone):
    assert_close(both, alone)
    ours = {path.relative_to(both) for path in both.rglob("*")}
    assert ours == {path.relative_to(alone) for path in alone.rglob("*")}


@pytest.mark.slow
def test_four_processes_go_on_where_two_stopped(options, both, alone, tmp_path):
    output = begun(both, tmp_path / "output")
    printed = run_together(4, *options, "--resume", "-o", output)
    assert "batch 12 = 4 x 3" in printed
    assert_close(output, alone)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_two_processes_stopped_amid_an_epoch_are_gone_on_from(
    count, options, cifar10_sample, tmp_path
):
    whole, output = tmp_path / "whole", tmp_path / "output"
    # Epochs of so many batches that all have heard of the signal before one ends, and a rate at
    # which the last bits' differences do not grow over them.
    options = [*options, "--data", cifar10_sample, "--batch-size", 16, "--epochs", 2]
    options += ["--learning-rate", 0.01]
    run_together(2, *options, "-o", whole)
    told = (ROOT / "tests" / "signalled.py", 2, int(signal.SIGTERM), SCRIPT)
    for done in map(finish, start_together(2, *options, "-o", output, last=told)):
        assert done.returncode == EXIT_STATUS[signal.SIGTERM], done.stderr
    more = [*options, "--resume", "-o", output]
    printed = run_together(2, *more) if count == 2 else run(SCRIPT, *more, backend="jax")
    assert re.search(r"epoch 1 and batch \d+ of the next", printed)
    for measure in ("loss", "val_loss"):
        expected = pytest.approx(history(whole)[measure], rel=TOLERANCE)
        assert history(output)[measure] == expected, measure


def test_one_process_goes_on_where_two_stopped(options, both, alone, tmp_path):
    output = begun(both, tmp_path / "output")
    run(SCRIPT, *options, "--resume", "-o", output, backend="jax")
    assert_close(output, alone)


def test_two_processes_go_on_where_one_stopped(options, alone, tmp_path):
    output = begun(alone, tmp_path / "output")
    run_together(2, *options, "--resume", "-o", output)
    assert_close(output, alone)


def test_a_process_with_other_options_is_refused(options, tmp_path):
    processes = start_together(2, *options, "-o", tmp_path, different=["--seed", 1])
    for done in map(finish, processes):
        assert done.returncode == 2
        assert "error: process 1 of 2 has other options" in done.stderr
    assert not (tmp_path / HISTORY).exists()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 600
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


LONG = ["--epochs", 10_000]


def test_all_processes_stop_together_when_one_is_told_to(options, tmp_path):
    processes = start_together(2, *options, *LONG, "-o", tmp_path)
    wait_for(tmp_path / CHECKPOINTS / "epoch_2.hdf5")
    processes[1].send_signal(signal.SIGTERM)
    chief, other = map(finish, processes)
    assert chief.returncode == other.returncode == EXIT_STATUS[signal.SIGTERM]
    assert "go on with" in chief.stdout
    assert other.stdout == ""


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
def test_when_one_is_killed_or_hangs_the_other_ends_and_the_checkpoints_are_whole(
    number, killed, options, tmp_path
):
    processes = start_together(2, *options, *LONG, "-o", tmp_path)
    wait_for(tmp_path / CHECKPOINTS / "epoch_2.hdf5")
    processes[killed].send_signal(number)
    since = time.monotonic()
    done = finish(processes[1 - killed])
    assert time.monotonic() - since < MINUTE
    assert done.returncode != 0
    processes[killed].kill()
    finish(processes[killed])
    assert "going on from" in run(
        *(SCRIPT, *options, "--resume", "--epochs", 4, "-o", tmp_path), backend="jax"
    )
