"""A run that is killed, at a certain point or at random, ends like one that nobody touched."""

import itertools
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import storm
from forkedscript import finish, start, write_pictures
from signalled import changes, signal_before
from storm import NETWORK, OFTEN, Training

from pipeline import history as histories
from pipeline.files.checkpoints import checkpoints
from pipeline.files.modelfile import read_checkpoint

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Training:
    return storm.resnet_cifar10_decay(tmp_path_factory.mktemp("training"))


# a kill at a certain point


def killed_before(event: str, name: str, since: str = "") -> Callable[[], None]:
    return partial(signal_before, event, name, signal.SIGKILL, since)


HISTORY, CURVE, RECORD = (
    f"resnet_cifar10_decay{end}" for end in (".json", ".png", "_options.json")
)
AMID = "epoch_1_plus_1_batches.hdf5"


@pytest.mark.parametrize(
    ("event", "name", "reached"),
    [
        ("os.rename", AMID, "epoch_1.hdf5, epoch 1\n"),
        ("open", ".epoch_2.hdf5.tmp", f"{AMID}, epoch 1 and batch 1 of the next\n"),
        ("os.remove", AMID, "epoch_2.hdf5, epoch 2\n"),
    ],
)
def test_a_kill_amid_an_epoch_costs_no_more_than_what_came_after_its_last_checkpoint(
    event, name, reached, training, tmp_path
):
    output = tmp_path / "output"
    killed = training.go_on(output, *OFTEN, first=killed_before(event, name))
    assert finish(killed) == -signal.SIGKILL
    training.assert_nothing_is_lost(output)
    assert finish(training.go_on(output, *OFTEN)) == 0
    assert reached in output.with_suffix(".log").read_text()
    training.assert_same_end(output)


@pytest.fixture(scope="module")
def begun(training, tmp_path_factory):
    """The output folder of a run that was killed after its first epoch."""
    output = tmp_path_factory.mktemp("begun") / "output"
    first = killed_before("open", ".epoch_2.hdf5.tmp")
    assert finish(training.go_on(output, first=first)) == -signal.SIGKILL
    assert list(checkpoints(output / training.checkpoints)) == [(1, 0)]
    return output


@pytest.mark.parametrize(
    ("event", "name"),
    [
        pytest.param("os.rename", ".epoch_3.hdf5.tmp", id="before a checkpoint's renaming"),
        pytest.param("os.remove", "/epoch_2.hdf5", id="behind it"),
    ],
)
def test_a_kill_around_a_checkpoint(training, begun, tmp_path, event, name):
    output = shutil.copytree(begun, tmp_path / "output")
    assert finish(training.go_on(output, first=killed_before(event, name))) == -signal.SIGKILL
    training.assert_nothing_is_lost(output)


def kill_before_the(nth: int) -> None:
    """Has this process kill itself before its nth change of a file, counted from a checkpoint's.

    From the first change of the second epoch's checkpoint to that of the fourth's at most: there
    it ends by itself.
    """
    numbers = itertools.count(1)
    counting = False

    def watch(event: str, paths: list[str]) -> None:
        nonlocal counting
        counting |= any(".epoch_2.hdf5.tmp" in path for path in paths)
        if any(".epoch_4.hdf5.tmp" in path for path in paths):
            os._exit(0)
        if counting and next(numbers) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    changes(watch)


@pytest.mark.slow
def test_a_kill_before_any_change_of_a_file_in_two_epochs(training, begun, tmp_path):
    for nth in itertools.count(1):
        output = shutil.copytree(begun, tmp_path / str(nth) / "output")
        status = finish(training.go_on(output, first=partial(kill_before_the, nth)))
        training.assert_nothing_is_lost(output)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert nth > 10


@pytest.mark.parametrize(
    ("event", "name"),
    [
        pytest.param("os.link", "best.hdf5", id="before its copy as the best"),
        pytest.param("os.rename", RECORD, id="while the end is recorded"),
    ],
)
def test_a_kill_behind_the_last_checkpoint(training, tmp_path, event, name):
    """Going on has nothing left to train then."""
    output = tmp_path / "output"
    first = killed_before(event, name, since=".epoch_1.hdf5.tmp")
    assert finish(training.go_on(output, "--epochs", 1, first=first)) == -signal.SIGKILL
    assert list(checkpoints(output / training.checkpoints)) == [(1, 0)]
    assert any(training.temporary.fullmatch(name) for name in training.files(output)) == (
        name == RECORD
    )

    assert finish(training.go_on(output, "--epochs", 1)) == 0
    left = training.files(output)
    assert left["best.hdf5"].read_bytes() == left["epoch_1.hdf5"].read_bytes()
    assert all(training.pattern.fullmatch(name) for name in left)


def kill_within(name: str, room: int) -> None:
    """Has the system kill this process while it writes to a file, after `room` bytes."""

    def watch(event: str, arguments: tuple) -> None:
        if event == "open" and name in Path(str(arguments[0])).name and "x" in str(arguments[1]):
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    sys.addaudithook(watch)


@pytest.mark.parametrize(
    ("name", "room"), [(HISTORY, 50), (CURVE, 20_000), ("epoch_2.hdf5", 40_000)]
)
def test_a_kill_in_the_midst_of_a_file(training, begun, tmp_path, name, room):
    output = shutil.copytree(begun, tmp_path / "output")
    assert finish(training.go_on(output, first=partial(kill_within, name, room))) == -signal.SIGXFSZ
    training.assert_nothing_is_lost(output)
    assert (next(output.rglob(f".{name}.tmp"))).stat().st_size == room


@pytest.mark.parametrize(
    ("event", "name", "left", "aside"),
    [
        pytest.param("os.rename", "abandoned_1/epoch_2.hdf5", [2, 1], [3], id="amid"),
        pytest.param("open", ".resnet_cifar10.json.tmp", [1], [3, 2], id="behind"),
    ],
)
def test_a_kill_while_later_checkpoints_are_put_aside_costs_the_branch_its_learning_rate(
    event, name, left, aside, tmp_path
):
    """But no checkpoint, and the run that goes on says which rate it takes."""
    output, log = tmp_path / "output", tmp_path / "log"

    def watched(*options: object, first: partial | None = None) -> int:
        script = "resnet_cifar10.py"
        return finish(start(script, *options, "--output", output, log=log, first=first))

    data = ["--data", write_pictures(tmp_path / "data")]
    assert watched(*data, *NETWORK, "--every", 1, "--epochs", 3) == 0
    back = ["--model", output / "checkpoints" / "epoch_1.hdf5", "--learning-rate", 0.05]
    killed = watched(*back, "--epochs", 2, first=killed_before(event, name))
    assert killed == -signal.SIGKILL
    for folder, epochs in (("checkpoints", left), ("checkpoints/abandoned_1", aside)):
        assert list(checkpoints(output / folder)) == [(epoch, 0) for epoch in epochs]
    assert watched("--resume", "--epochs", 3) == 0, log.read_text()
    assert "--learning-rate: 0.1 (the checkpoint's)" in log.read_text()
    resumed = read_checkpoint(output / "checkpoints" / "epoch_3.hdf5")
    assert histories.read_history(output / "resnet_cifar10.json") == resumed.history


# kills at random


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_been(training):
    assert training.storm(7, seed=1).total() >= 7
