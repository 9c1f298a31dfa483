"""A run that is killed again and again ends exactly like one that nobody touched.

Real scripts in real processes get SIGKILL, which nothing can catch, and go on with --resume. After
every kill all checkpoints are whole, history and checkpoints tell the same as those of an
undisturbed run, and nothing lies about that does not belong there.
"""

import itertools
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import numpy as np
import pytest
from forkedscript import finish, start, write_pictures
from signalled import changes, signal_before

from pipeline.files.checkpoints import checkpoints
from pipeline.files.modelfile import read_checkpoint
from pipeline.training import history as histories

pytestmark = pytest.mark.thorough

SCRIPT = "resnet_cifar10_decay.py"
NETWORK = ["--stages", 1, "--filters", 4, 8, "--batch-size", 16]
EPOCHS, EVERY = 6, 4
OPTIONS = [*NETWORK, "--workers", 1, "--epochs", EPOCHS, "--every", EVERY, "--resume"]
RESULTS = [
    f"resnet_cifar10_decay{end}"
    for end in (
        ".json",
        ".png",
        "_options.json",
        "_report.txt",
        ".csv",
        "_predictions.npz",
        "_report.html",
        ".pdf",
    )
]
CHECKPOINT = r"epoch_\d+(_plus_\d+_batches)?\.hdf5"
FILES = re.compile("|".join([CHECKPOINT, r"best\.hdf5|resnet_cifar10\.hdf5", *RESULTS]))
TEMPORARY = re.compile(rf"\.({FILES.pattern})\.tmp")


@pytest.fixture(scope="module")
def go_on(tmp_path_factory):
    """Starts the script, or goes on: `go_on(output, "--epochs", 9)`; see `start` for `first`."""
    data = ["--data", write_pictures(tmp_path_factory.mktemp("data"))]

    def go_on(output: Path, *more, first: Callable[[], None] | None = None) -> BaseProcess:
        log = output.with_suffix(".log")
        return start(SCRIPT, *data, *OPTIONS, *more, "-o", output, log=log, first=first)

    return go_on


@pytest.fixture(scope="module")
def straight(go_on, tmp_path_factory):
    """The output folder of a run that nobody disturbed."""
    output = tmp_path_factory.mktemp("straight") / "output"
    assert finish(go_on(output)) == 0
    return output


def files(output: Path) -> dict[str, Path]:
    return {
        path.name: path for path in output.rglob("*") if path.is_file() and path.name != ".lock"
    }


def assert_nothing_is_lost(output: Path, straight: Path) -> None:
    """Looks at what a kill has left."""
    true_history = histories.read_history(straight / RESULTS[0])
    found = checkpoints(output / "checkpoints_decay")
    for epoch, path in found.items():
        checkpoint = read_checkpoint(path)  # raises if it is damaged
        assert checkpoint.epoch == epoch
        assert checkpoint.history == histories.trimmed(true_history, epoch)
    newest = max(found, default=0)
    assert set(range(EVERY, newest + 1, EVERY)) <= set(found)
    left = files(output)
    assert all(FILES.fullmatch(name) or TEMPORARY.fullmatch(name) for name in left)
    if RESULTS[0] in left:
        history = histories.read_history(left[RESULTS[0]])
        assert histories.epochs(history) in (newest, newest + 1)
        assert history == histories.trimmed(true_history, histories.epochs(history))
    else:
        assert newest == 0
        if RESULTS[4] in left:  # written next
            rows = len(left[RESULTS[4]].read_text().splitlines()) - 1
            assert rows in (newest, newest + 1)
    if RESULTS[1] in left:
        assert cv2.imread(str(left[RESULTS[1]])) is not None
    if RESULTS[2] in left:
        assert json.loads(left[RESULTS[2]].read_text())["options"]["script"] == SCRIPT
    if newest > 1:
        accuracy = true_history["val_accuracy"]
        best = read_checkpoint(left["best.hdf5"]).history["val_accuracy"]
        # A kill may come between a checkpoint and its copy; going on then makes the copy first.
        assert best[-1] in (max(accuracy[:newest]), max(accuracy[: newest - 1]))
    if "resnet_cifar10.hdf5" in left:
        assert left["resnet_cifar10.hdf5"].read_bytes() == model_of(straight)


def model_of(output: Path) -> bytes:
    return (output / "resnet_cifar10.hdf5").read_bytes()


def assert_same_end(output: Path, straight: Path) -> None:
    """Looks at what a run has left that went to its end, disturbed or not."""
    ours, theirs = files(output), files(straight)
    for name in theirs.keys() - {RESULTS[2], RESULTS[6]}:  # they tell folders and speed
        assert ours[name].read_bytes() == theirs[name].read_bytes(), name
    # Checkpoints from which a run went on stay; no temporary file does.
    assert all(re.fullmatch(r"epoch_\d+\.hdf5", name) for name in ours.keys() - theirs.keys())


# a kill at a certain point


def killed_before(event: str, name: str, since: str = "") -> Callable[[], None]:
    return partial(signal_before, event, name, signal.SIGKILL, since)


OFTEN = ["--checkpoint-minutes", 1e-9]  # after each of an epoch's two batches but the last
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
    event, name, reached, go_on, straight, tmp_path
):
    output = tmp_path / "output"
    killed = go_on(output, *OFTEN, first=killed_before(event, name))
    assert finish(killed) == -signal.SIGKILL
    assert_nothing_is_lost(output, straight)
    assert finish(go_on(output, *OFTEN)) == 0
    assert reached in output.with_suffix(".log").read_text()
    assert_same_end(output, straight)


@pytest.fixture(scope="module")
def begun(go_on, tmp_path_factory):
    """The output folder of a run that was killed after its first epoch."""
    output = tmp_path_factory.mktemp("begun") / "output"
    first = killed_before("open", ".epoch_2.hdf5.tmp")
    assert finish(go_on(output, first=first)) == -signal.SIGKILL
    assert list(checkpoints(output / "checkpoints_decay")) == [1]
    return output


@pytest.mark.parametrize(
    ("event", "name"),
    [
        pytest.param("os.rename", ".epoch_3.hdf5.tmp", id="before a checkpoint's renaming"),
        pytest.param("os.remove", "/epoch_2.hdf5", id="behind it"),
    ],
)
def test_a_kill_around_a_checkpoint(go_on, begun, straight, tmp_path, event, name):
    output = shutil.copytree(begun, tmp_path / "output")
    assert finish(go_on(output, first=killed_before(event, name))) == -signal.SIGKILL
    assert_nothing_is_lost(output, straight)


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
def test_a_kill_before_any_change_of_a_file_in_two_epochs(go_on, begun, straight, tmp_path):
    for nth in itertools.count(1):
        output = shutil.copytree(begun, tmp_path / str(nth) / "output")
        status = finish(go_on(output, first=partial(kill_before_the, nth)))
        assert_nothing_is_lost(output, straight)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert nth > 10


@pytest.mark.parametrize(
    ("event", "name"),
    [
        pytest.param("os.link", "best.hdf5", id="before its copy as the best"),
        pytest.param("os.rename", RESULTS[2], id="while the end is recorded"),
    ],
)
def test_a_kill_behind_the_last_checkpoint(go_on, tmp_path, event, name):
    """Going on has nothing left to train then."""
    output = tmp_path / "output"
    first = killed_before(event, name, since=".epoch_1.hdf5.tmp")
    assert finish(go_on(output, "--epochs", 1, first=first)) == -signal.SIGKILL
    assert list(checkpoints(output / "checkpoints_decay")) == [1]
    assert any(TEMPORARY.fullmatch(name) for name in files(output)) == (name == RESULTS[2])

    assert finish(go_on(output, "--epochs", 1)) == 0
    left = files(output)
    assert left["best.hdf5"].read_bytes() == left["epoch_1.hdf5"].read_bytes()
    assert all(FILES.fullmatch(name) for name in left)


def kill_within(name: str, room: int) -> None:
    """Has the system kill this process while it writes to a file, after `room` bytes."""

    def watch(event: str, arguments: tuple) -> None:
        if event == "open" and name in Path(str(arguments[0])).name and "x" in str(arguments[1]):
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    sys.addaudithook(watch)


@pytest.mark.parametrize(
    ("name", "room"), [(RESULTS[0], 50), (RESULTS[1], 20_000), ("epoch_2.hdf5", 40_000)]
)
def test_a_kill_in_the_midst_of_a_file(go_on, begun, straight, tmp_path, name, room):
    output = shutil.copytree(begun, tmp_path / "output")
    assert finish(go_on(output, first=partial(kill_within, name, room))) == -signal.SIGXFSZ
    assert_nothing_is_lost(output, straight)
    assert (next(output.rglob(f".{name}.tmp"))).stat().st_size == room


def test_a_kill_while_the_checkpoints_of_a_branch_are_put_aside(tmp_path):
    output, log = tmp_path / "output", tmp_path / "log"

    def watched(*options: object, first: partial | None = None) -> int:
        script = "resnet_cifar10.py"
        return finish(start(script, *options, "--output", output, log=log, first=first))

    data = ["--data", write_pictures(tmp_path / "data")]
    assert watched(*data, *NETWORK, "--every", 1, "--epochs", 3) == 0
    back = ["--model", output / "checkpoints" / "epoch_1.hdf5", "--learning-rate", 0.05]
    first = killed_before("os.rename", "abandoned_1/epoch_2.hdf5")
    assert watched(*back, "--epochs", 2, first=first) == -signal.SIGKILL
    assert list(checkpoints(output / "checkpoints")) == [2, 1]
    assert list(checkpoints(output / "checkpoints" / "abandoned_1")) == [3]
    assert watched("--resume", "--epochs", 3) == 0, log.read_text()
    resumed = read_checkpoint(output / "checkpoints" / "epoch_3.hdf5")
    assert histories.read_history(output / "resnet_cifar10.json") == resumed.history


# kills at random


def slow_disk() -> None:
    """Lets each flush of this process take 20 ms longer, so that kills strike in it more often."""
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        time.sleep(0.02)
        flush(descriptor)

    os.fsync = fsync


def unfinished(output: Path) -> set[tuple[str, int]]:
    """Returns names and times of the temporary files."""
    found = set()
    for folder in (output, output / "checkpoints_decay"):
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            names = [entry for entry in entries if TEMPORARY.fullmatch(entry.name)]
            found |= {(entry.name, entry.stat().st_mtime_ns) for entry in names}
    return found


def kill_at_random(process: BaseProcess, output: Path, rng: np.random.Generator) -> str:
    """Kills a process unless it has ended before, as a rule while it writes; returns what."""
    left = unfinished(output)  # by an earlier kill
    if rng.random() < 0.2:
        process.join(timeout=rng.uniform(0, 4))
    else:
        process.join(timeout=rng.choice([0, rng.uniform(0, 4)]))  # so that runs get ahead, too
        kind = rng.choice([".epoch", ".epoch", RESULTS[0], RESULTS[1], ""])
        pause = rng.choice([0, rng.uniform(0, 0.02)])
        while process.exitcode is None:
            if any(kind in name for name, _ in unfinished(output) - left):
                time.sleep(pause)
                break
            time.sleep(0.0002)
    process.kill()
    process.join()
    struck = [re.sub(r"epoch_\d+", "epoch_N", name) for name, _ in unfinished(output) - left]
    return struck[0] if struck else "no write"


def storm(
    kills: int, seed: int, go_on: Callable, straight: Path, folder: Path, more: Sequence = ()
) -> Counter:
    """Kills runs that go on and on, and counts in the midst of which write."""
    rng = np.random.default_rng(seed)
    struck = Counter()
    for number in itertools.count():
        output = folder / f"run_{number}"
        exit_status = None
        while exit_status != 0:
            process = go_on(output, *more, first=slow_disk)
            under_way = kill_at_random(process, output, rng) if struck.total() < kills else None
            exit_status = finish(process)
            assert exit_status in (0, -signal.SIGKILL), output.with_suffix(".log").read_text()
            if exit_status:
                assert_nothing_is_lost(output, straight)
                struck[under_way] += 1
        assert_same_end(output, straight)
        if struck.total() >= kills:
            return struck


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_been(go_on, straight, tmp_path):
    print(storm(7, seed=1, go_on=go_on, straight=straight, folder=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "more"), [(200, []), (100, OFTEN)], ids=["", "amid epochs"])
def test_the_full_storm(kills, more, go_on, straight, tmp_path):
    struck = storm(kills, 2, go_on, straight, tmp_path, more)
    print(struck.total(), "kills:", dict(struck.most_common()))
