"""A training script whose run is killed again and again, beside one that nobody disturbs.

Real scripts in real processes get SIGKILL, which nothing can catch, and go on with --resume. After
every kill all checkpoints are whole, history and checkpoints tell the same as those of the
undisturbed run, and nothing lies about that does not belong there.
"""

import itertools
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import numpy as np
from forkedscript import finish, start, write_pictures

from pipeline import history as histories
from pipeline.files.checkpoints import checkpoints
from pipeline.files.modelfile import read_checkpoint
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter, Origin
from pipeline.io.miniatures import write_photographs

NETWORK = ["--stages", 1, "--filters", 4, 8, "--batch-size", 16]
EPOCHS, EVERY = 6, 4
OFTEN = ["--checkpoint-minutes", 1e-9]  # after each of an epoch's batches but the last
CHECKPOINT = r"epoch_\d+(_plus_\d+_batches)?\.hdf5"


class Training:
    """A run of a training script, of six short epochs.

    Args:
        folder: a new one, where the data and the undisturbed run go.
        script: the script.
        data: its options for the data set.
        name: of its results.
        checkpoints: the folder of its checkpoints, below that of the results.
        model: its final model's file.
        network: options for the network and the batches.
        watched: whether --resume takes it that there is something to go on from.
    """

    def __init__(
        self,
        folder: Path,
        script: str,
        data: Sequence[object],
        name: str,
        checkpoints: str,
        model: str,
        network: Sequence[object] = NETWORK,
        watched: bool = False,
    ):
        self.folder, self.script, self.name, self.watched = folder, script, name, watched
        self.checkpoints, self.model = checkpoints, model
        self.options = [*data, *network, "--workers", 1, "--epochs", EPOCHS, "--every", EVERY]
        self.history, self.curve, self.record = (
            f"{name}.json",
            f"{name}.png",
            f"{name}_options.json",
        )
        self.table, self.page = f"{name}.csv", f"{name}_report.html"
        others = ("_report.txt", "_predictions.npz", ".pdf", "_pictures.json")
        results = [self.history, self.curve, self.record, self.table, self.page]
        results += [name + end for end in others]
        self.pattern = re.compile("|".join([CHECKPOINT, r"best\.hdf5", model, *results]))
        self.temporary = re.compile(rf"\.({self.pattern.pattern})\.tmp")

    def go_on(
        self, output: Path, *more: object, first: Callable[[], None] | None = None
    ) -> BaseProcess:
        """Starts the script, or goes on; see `forkedscript.start` for `first`."""
        begun = (output / self.history).exists() or any(checkpoints(output / self.checkpoints))
        resume = ["--resume"] if begun or not self.watched else []
        log = output.with_suffix(".log")
        return start(self.script, *self.options, *resume, *more, "-o", output, log=log, first=first)

    @cached_property
    def straight(self) -> Path:
        """The output folder of a run that nobody disturbed."""
        output = self.folder / "straight"
        assert finish(self.go_on(output)) == 0, output.with_suffix(".log").read_text()
        return output

    def files(self, output: Path) -> dict[str, Path]:
        """Returns a run's files by name."""
        found = (path for path in output.rglob("*") if path.is_file())
        return {path.name: path for path in found if path.name != ".lock"}

    def assert_nothing_is_lost(self, output: Path) -> None:
        """Looks at what a kill has left."""
        true_history = histories.read_history(self.straight / self.history)
        found = checkpoints(output / self.checkpoints)
        for (epoch, batches), path in found.items():
            checkpoint = read_checkpoint(path)  # raises if it is damaged
            assert (checkpoint.epoch, checkpoint.batch) == (epoch, batches)
            assert checkpoint.history == histories.trimmed(true_history, epoch)
        newest, _ = max(found, default=(0, 0))
        assert {(epoch, 0) for epoch in range(EVERY, newest + 1, EVERY)} <= set(found)
        left = self.files(output)
        assert all(self.pattern.fullmatch(n) or self.temporary.fullmatch(n) for n in left)
        if self.history in left:
            history = histories.read_history(left[self.history])
            assert histories.epochs(history) in (newest, newest + 1)
            assert history == histories.trimmed(true_history, histories.epochs(history))
        else:
            assert newest == 0
            if self.table in left:  # written next
                rows = len(left[self.table].read_text().splitlines()) - 1
                assert rows in (newest, newest + 1)
        if self.curve in left:
            assert cv2.imread(str(left[self.curve])) is not None
        if self.record in left:
            options = json.loads(left[self.record].read_text())["options"]
            assert options["script"] == self.script
        if newest > 1:
            accuracy = true_history["val_accuracy"]
            best = read_checkpoint(left["best.hdf5"]).history["val_accuracy"]
            # A kill may come between a checkpoint and its copy; going on then makes the copy first.
            assert best[-1] in (max(accuracy[:newest]), max(accuracy[: newest - 1]))
        if self.model in left:
            true_model = self.files(self.straight)[self.model]
            assert left[self.model].read_bytes() == true_model.read_bytes()

    def assert_same_end(self, output: Path) -> None:
        """Looks at what a run has left that went to its end, disturbed or not."""
        ours, theirs = self.files(output), self.files(self.straight)
        for name in theirs.keys() - {self.record, self.page}:  # they tell folders and speed
            assert ours[name].read_bytes() == theirs[name].read_bytes(), name
        # Checkpoints from which a run went on stay; no temporary file does.
        assert all(re.fullmatch(r"epoch_\d+\.hdf5", name) for name in ours.keys() - theirs.keys())

    def storm(
        self, kills: int, seed: int, *more: object, survived: Callable[[], None] | None = None
    ) -> Counter:
        """Kills runs that go on and on, and counts in the midst of which write.

        Args:
            kills: how many there are at least.
            seed: of when they come.
            more: options of the script.
            survived: called after each that nothing was lost by.
        """
        rng = np.random.default_rng(seed)
        struck = Counter()
        for number in itertools.count():
            output = self.folder / f"run_{number}"
            exit_status = None
            while exit_status != 0:
                process = self.go_on(output, *more, first=slow_disk)
                under_way = None
                if struck.total() < kills:
                    under_way = self._kill_at_random(process, output, rng)
                exit_status = finish(process)
                assert exit_status in (0, -signal.SIGKILL), output.with_suffix(".log").read_text()
                if exit_status:
                    self.assert_nothing_is_lost(output)
                    struck[under_way] += 1
                    if survived:
                        survived()
            self.assert_same_end(output)
            if struck.total() >= kills:
                return struck

    def _kill_at_random(self, process: BaseProcess, output: Path, rng: np.random.Generator) -> str:
        """Kills a process unless it has ended before, as a rule while it writes; returns what."""
        left = self._unfinished(output)  # by an earlier kill
        if rng.random() < 0.2:
            process.join(timeout=rng.uniform(0, 4))
        else:
            # So that runs get ahead, too.
            process.join(timeout=rng.choice([0, rng.uniform(0, 4)]))
            kind = rng.choice([".epoch", ".epoch", self.history, self.curve, ""])
            pause = rng.choice([0, rng.uniform(0, 0.02)])
            while process.exitcode is None:
                if any(kind in name for name, _ in self._unfinished(output) - left):
                    time.sleep(pause)
                    break
                time.sleep(0.0002)
        process.kill()
        process.join()
        new = self._unfinished(output) - left
        struck = [re.sub(r"epoch_\d+", "epoch_N", name) for name, _ in new]
        return struck[0] if struck else "no write"

    def _unfinished(self, output: Path) -> set[tuple[str, int]]:
        """Returns names and times of the temporary files."""
        found = set()
        for folder in (output, output / self.checkpoints):
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                names = [entry for entry in entries if self.temporary.fullmatch(entry.name)]
                found |= {(entry.name, entry.stat().st_mtime_ns) for entry in names}
        return found


def slow_disk() -> None:
    """Lets each flush of this process take 20 ms longer, so that kills strike in it more often."""
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        time.sleep(0.02)
        flush(descriptor)

    os.fsync = fsync


# the scripts


def resnet_cifar10_decay(folder: Path) -> Training:
    data = ["--data", write_pictures(folder / "data")]
    name = "resnet_cifar10_decay"
    return Training(folder, f"{name}.py", data, name, "checkpoints_decay", "resnet_cifar10.hdf5")


def resnet_cifar10(folder: Path) -> Training:
    data = ["--data", write_pictures(folder / "data")]
    name, model = "resnet_cifar10", "resnet_cifar10_watched.hdf5"
    return Training(folder, f"{name}.py", data, name, "checkpoints", model, watched=True)


def train_decay(folder: Path) -> Training:
    rng = np.random.default_rng(0)
    names = [(f"n{number}", f"class {number}") for number in range(4)]
    (folder / "data").mkdir()
    for split, count in (("train", 32), ("val", 16), ("test", 16)):
        labels = np.arange(count) % len(names)
        images = rng.integers(0, 60, (count, 64, 64, 3)) + 60 * labels[:, None, None, None]
        images = images.astype(np.uint8)
        path, origin = folder / "data" / f"{split}.hdf5", Origin(split, "storm")
        with HDF5DatasetWriter(images.shape, path, names, origin=origin) as writer:
            writer.add(images, labels)
            writer.mean = np.full(3, 120, np.float32)
    data = ["--hdf5", folder / "data"]
    name, model = "resnet_tinyimagenet_decay", "resnet_tinyimagenet_decay.hdf5"
    return Training(folder, "train_decay.py", data, name, "checkpoints_tinyimagenet_decay", model)


def train_images(folder: Path) -> Training:
    write_photographs(folder / "data", 20)
    data = ["--images", folder / "data"]
    network = ["--size", 32, "--stages", 1, "--filters", 4, 8, "--batch-size", 16]
    name = "resnet_images"
    return Training(
        folder, "train_images.py", data, name, "checkpoints_images", f"{name}.hdf5", network
    )


SCRIPTS = {
    of.__name__: of for of in (resnet_cifar10, resnet_cifar10_decay, train_decay, train_images)
}
