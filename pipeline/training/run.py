"""One training run: where its files lie, what it may write, and the record of its options."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import keras

from pipeline import history as histories
from pipeline.backend import processor, uses_onednn
from pipeline.backend.devices import Devices
from pipeline.errors import UserError, one_line
from pipeline.evaluation.savedrun import MISTAKES, KeptPredictions, SavedRun
from pipeline.files.atomic import discard_unfinished, write_atomically
from pipeline.files.checkpoints import ABANDONED, best_path, checkpoints
from pipeline.files.lock import lock, real
from pipeline.files.modelfile import (
    Checkpoint,
    HeldOut,
    model_history,
    read_checkpoint,
    save_model,
)
from pipeline.files.resultfiles import ResultFiles
from pipeline.history import History
from pipeline.training.experiment import FIXED_OPTIONS, Experiment, Options
from pipeline.training.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.batches import TrainingBatches
    from pipeline.evaluation.predictions import Predictions
    from pipeline.io.dataset import Dataset, Images
    from pipeline.nn.spec import NetworkSpec
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.preprocessing.scalepreprocessor import ScalePreprocessor

MOVE_IT_AWAY = "move this checkpoint away to go on from an earlier one or to start anew"

# Parts of a recipe that the options decide over.
SET_BY_OPTIONS = ("epochs", "batch_size", "learning_rate")

EXAMPLES = 16  # of augmented training images, in the HTML report

PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "h5py",
    "opencv-python",
    "opencv-python-headless",
    "keras-hub",
    "torchvision",
)

# A report of more classes than fit on a screen is shortened there, to the worst ones.
MOST_CLASSES_SHOWN, WORST_SHOWN = 20, 10


class Run:
    """The files of a run and the locks on their folders.

    Making one takes the locks, creates the folders and checks that nothing of another run would be
    overwritten; nothing else is written yet.

    Args:
        experiment: what is trained.
        options: resolved; see `Experiment.resolve`.
        checkpoint: what the run goes on from.
        script: what the checkpoints are marked with; by default the experiment's name.
        command: what the run was started with, for its record.
        locks: the locks that are held already, by folder; those that the run takes are added.
        devices: that it trains on.

    Raises:
        UserError: another run is at work in the folders, or has left its results in them.
        OSError: a folder cannot be written.

    Attributes:
        options, checkpoint, devices: as above.
        start_epoch: epochs already trained.
        start_batch: batches already trained of the epoch after them.
        history: of these epochs.
        nothing_left: whether all epochs are trained, or patience has run out.
        remembered: what every checkpoint keeps of the options.
        drawn_with: what the curve says of the run; see `pipeline.figures.curve.plot`.
        reported_on: which images the report is on, such as "test".
    """

    def __init__(
        self,
        experiment: Experiment,
        options: Options,
        checkpoint: Checkpoint | None = None,
        script: str | None = None,
        command: str | None = None,
        locks: dict[Path, TextIO] | None = None,
        devices: Devices | None = None,
    ):
        self.options = options
        self.devices = devices or Devices()
        self.checkpoint = checkpoint
        self.remembered = {
            "script": script or experiment.name,
            **{name: getattr(options, name) for name in experiment.remembered},
            # Whole paths, as the run may go on in another working folder.
            "model": _given_model(experiment, options),
            "data": options.data and os.path.abspath(options.data),
            "weights": options.weights and os.path.abspath(options.weights),
            "backend": keras.backend.backend(),
        }
        self.start_epoch = checkpoint.epoch if checkpoint else 0
        self.start_batch = checkpoint.batch if checkpoint else 0
        self.history = checkpoint.history if checkpoint else {}
        if self.history and self.history.keys() != set(histories.MEASURES):
            raise UserError(
                f"{checkpoint.path} is damaged: its history is not of "
                f"{', '.join(histories.MEASURES)}"
            )
        # An epoch under way is ended first.
        stalled = not self.start_batch and histories.stalled(self.history, options.patience)
        self.nothing_left = stalled or self.start_epoch == options.epochs
        self.drawn_with: dict[str, str | bool] = {}
        self.reported_on = "test"
        self._command = command

        self.name = experiment.name
        self.output = output = Path(options.output)
        self.files = ResultFiles(output, experiment.name)
        self.checkpoints = Path(options.checkpoints)
        self._locks = {} if locks is None else locks
        if self.devices.chief:
            for folder in (real(output), real(self.checkpoints)):
                # One folder may serve as both, and even one process cannot lock it twice.
                if folder not in self._locks:
                    self._locks[folder] = lock(folder)
        self._model_path = Path(options.model) if options.model else None
        self._refuse_to_overwrite()
        if checkpoint:
            checkpoint.refuse_past(options.epochs)
            if script is None:  # a script's command line has done so
                self._refuse_another_run()
        if self.start_batch:
            self._refuse_other_order()
        if self._model_path and self.devices.chief:
            self._prepare_model()
        before = checkpoint.options.get("backend") if checkpoint else None
        if before and before != self.remembered["backend"]:
            print(f"  backend: {one_line(str(before))} -> {self.remembered['backend']}")

    def changed(self, name: str) -> bool:
        """Tells whether something that is remembered is another than in the checkpoint."""
        now = self.remembered[name]
        return self.checkpoint is not None and self.checkpoint.options.get(name, now) != now

    def begin(self, recipe: Recipe, data: Dataset) -> None:
        """Remembers what is trained by and on, and makes sure that the run can go on with it.

        Args:
            recipe: as it is trained by.
            data: what is trained and validated on.

        Raises:
            UserError: the checkpoint was trained by another recipe, on other classes,
                or up to a batch of other images; the devices cannot divide a batch among them; or
                another process of the run has other options, images, packages or another
                checkpoint.
        """
        self._record_recipe(recipe)
        self._record_pictures(data)
        self._record_image_count(len(data.train_images))
        self.devices.refuse_undivided(recipe.batch_size, len(data.train_images))
        self._refuse_different(data)
        if data.test_images is None:
            parts = {"": "validation", "held out": "held-out"}
            self.reported_on = parts.get(data.val_part, "test")

    def _record_image_count(self, images: int) -> None:
        self.remembered["images"] = images
        # What was written by earlier versions does not say how many there were.
        too_few = self.start_batch >= max(1, images // self.options.batch_size)
        if self.start_batch and (self.changed("images") or too_few):
            before = self.checkpoint.options.get("images", "more")
            raise UserError(
                f"{self.checkpoint.path} was written within an epoch of {before} images, and there "
                f"are {images} now: go on with those, or {MOVE_IT_AWAY}"
            )

    def _refuse_another_run(self) -> None:
        trained = self.checkpoint.options
        ours = json.loads(json.dumps(self.remembered))
        for name in ("script", *FIXED_OPTIONS):
            if name not in ours:
                continue
            before, now = trained.get(name, ours[name]), ours[name]
            if name == "weights" and before:  # as typed, in checkpoints of earlier versions
                before = os.path.abspath(before)
            if before != now:
                raise UserError(
                    f"{self.checkpoint.path} is of a run with {name} {before}, and this one has "
                    f"{now}: give it an output folder of its own"
                )

    def _refuse_other_order(self) -> None:
        for name in filter(self.changed, ("batch_size", "seed")):
            before, now = self.checkpoint.options[name], self.remembered[name]
            raise UserError(
                f"{self.checkpoint.path} was written within an epoch with {name} {before}, and "
                f"with {now} its images would come in another order: go on with {before}, or "
                f"{MOVE_IT_AWAY}"
            )

    def _record_recipe(self, recipe: Recipe) -> None:
        parts = {
            part: value
            for part, value in dataclasses.asdict(recipe).items()
            if part not in SET_BY_OPTIONS
        }
        trained = self.checkpoint.options.get("recipe_parts", {}) if self.checkpoint else {}
        for name, part in parts.items():
            if (before := trained.get(name, part)) != part:
                raise UserError(
                    f"{self.checkpoint.path} was trained with {name} {before}, and its recipe has "
                    f"{part} now: restore it to continue, or start a new run with another output "
                    "folder"
                )
        self.remembered["recipe_parts"] = parts

    def _record_pictures(self, data: Dataset) -> None:
        if data.fingerprint is None:  # not in files that a person may change
            return
        found = {"classes": list(data.label_names), "fingerprint": data.fingerprint}
        trained = found | (self.checkpoint.options if self.checkpoint else {})
        if trained["classes"] != found["classes"]:
            raise UserError(
                f"{self.checkpoint.path} was trained on other classes than the "
                f"{len(data.label_names)} found now: restore them to continue, or start a new run "
                "from its weights"
            )
        if trained["fingerprint"] != found["fingerprint"]:
            print("note: the pictures are not those that this run was begun with")
        self.remembered |= found

    def _refuse_different(self, data: Dataset) -> None:
        labels = [data.train_labels, data.val_labels]
        what = {
            # Each machine may have a copy of the images in a place of its own, or another working
            # folder, below which the model lies that only one of them writes.
            "options": self.remembered | {"data": None, "model": None, "weights": None},
            "weights": self.options.weights,
            "labels": [hashlib.sha256(part.tobytes()).hexdigest() for part in labels],
            "mean": data.mean.tolist(),
            "start": [self.start_epoch, self.start_batch],
            "devices": self.devices.names,
            "history": self.history,
            "versions": _versions(),
            "commit": _commit(),
        }
        self.devices.refuse_different(json.dumps(what).encode())

    def _refuse_others_checkpoints(self) -> None:
        folder, place = self.checkpoints, real(self.checkpoint.path.parent)
        if place.name.startswith(ABANDONED):
            place = place.parent
        if place == real(folder):
            return
        ours = histories.rows(self.history)[:1]
        best = best_path(folder)
        for path in (*checkpoints(folder).values(), *([best] if best.exists() else [])):
            try:
                begun = histories.rows(read_checkpoint(path).history)[:1]
            except UserError:
                begun = []
            if not begun or begun != ours:  # branches of one run may share no more than an epoch
                raise UserError(
                    f"{path} is damaged or belongs to another run: give this one another folder "
                    "of checkpoints"
                )

    def _prepare_model(self) -> None:
        path = self._model_path
        folder = real(path.parent)
        if folder == real(self.checkpoints):
            raise UserError(f"{path} lies among the checkpoints: choose another folder")
        own = [self.files.history.with_suffix(".csv"), *vars(self.files).values()]
        if folder / path.name in {real(file.parent) / file.name for file in own}:
            raise UserError(f"{path} is where this run's own results go: name another file")
        if folder not in self._locks:
            # Another run may have the same model, or this folder for all its results.
            self._locks[folder] = lock(folder, shared=True)
            self._locks[folder / path.name] = lock(folder, f".{path.name}.lock")
        self._refuse_to_overwrite_model(self.history)

    def _refuse_to_overwrite_model(self, history: History) -> None:
        if not self._model_path.exists():
            return
        try:
            found = model_history(self._model_path)
        except UserError:
            found = {}
        found, ours = histories.rows(found), histories.rows(history)
        common = min(len(found), len(ours))
        if not common or found[:common] != ours[:common]:
            raise UserError(
                f"{self._model_path} was not written by this run: name another file, or move it "
                "away"
            )

    def save_model(self, network: keras.Model, spec: NetworkSpec, history: History) -> None:
        """Writes the final model, if the run has one.

        Args:
            network: what has been trained.
            spec: what it is.
            history: of all its epochs.

        Raises:
            UserError: another file has taken the model's place since the run was started.
            OSError: it cannot be written.
        """
        if self._model_path:
            # A model of a branch that this run has left is its own as well.
            self._refuse_to_overwrite_model(self.history or history)
            save_model(self._model_path, network, spec, history, HeldOut.of(self.remembered))
            print(one_line(f"model: {self._model_path}"))

    def _refuse_to_overwrite(self) -> None:
        another = "continue it with --resume, or give a new run another output folder"
        if self.files.history.exists():
            found = histories.read_history(self.files.history)
            if not (self.options.resume or self.checkpoint):
                raise UserError(
                    f"{self.files.history} holds the {histories.epochs(found)} epochs of an "
                    f"earlier run: {another}"
                )
            # A kill may have come between the first epoch's history and its checkpoint.
            only_begun = (
                not self.start_epoch
                and histories.epochs(found) == 1
                and not self.files.report.exists()
            )
            if not only_begun and histories.trimmed(found, self.start_epoch) != self.history:
                raise UserError(
                    f"{self.files.history} belongs to another run: give this one another output "
                    "folder"
                )
            if self.nothing_left and self.start_epoch < histories.epochs(found):
                raise UserError(
                    f"{self.files.history} has {histories.epochs(found)} epochs already, and this "
                    f"run would only report on epoch {self.start_epoch}: train longer, or give it "
                    "another output folder"
                )
        if self.checkpoint:
            self._refuse_others_checkpoints()
            return
        # A run that has not reached its first checkpoint has none of these, resumed or not.
        if found := checkpoints(self.checkpoints):
            epoch, _ = max(found)
            raise UserError(
                f"{self.checkpoints} holds checkpoints of an earlier run up to epoch {epoch}: "
                f"{another} or folder of checkpoints"
            )
        if (best := best_path(self.checkpoints)).exists():
            raise UserError(
                f"{best} is the best checkpoint of an earlier run: give a new run another output "
                "folder or folder of checkpoints"
            )

    def record(
        self,
        network: keras.Model,
        images_per_second: Sequence[float] | None = None,
        seconds: float | None = None,
    ) -> None:
        """Writes the resolved options and all that the result depends on beside them.

        Args:
            network: the run's.
            images_per_second: speed by epoch since the start epoch, once the training has ended.
            seconds: that these epochs took, validation and checkpoints included.
        """
        if not self.devices.chief:
            return
        record = {
            "command": self._command,
            "options": self.remembered,
            "paths": {"output": self.options.output, "checkpoints": self.options.checkpoints},
            "start_epoch": self.start_epoch,
            "parameters": network.count_params(),
            "curve": self.drawn_with,
            "reported_on": self.reported_on,
            "images_per_second": images_per_second,
            "seconds": seconds,
            "devices": list(self.devices.names),
            "processor": {
                "name": processor.name(),
                "instruction_sets": processor.instruction_sets(),
            },
            "onednn": uses_onednn(),
            "python": platform.python_version(),
            "versions": _versions(),
            "commit": _commit(),
        }
        write_atomically(self.files.options, json.dumps(record, indent=2) + "\n")

    def discard_unfinished(self) -> None:
        """Removes what a kill while the run's end was recorded has left."""
        if self.devices.chief:
            discard_unfinished(self.files.options)

    def report(self, predictions: Predictions) -> None:
        """Prints and writes what the trained network has reached."""
        text = predictions.report()
        write_atomically(self.files.report, text)
        if len(predictions.label_names) > MOST_CLASSES_SHOWN:
            rank1, rank5 = predictions.ranks()
            print(f"rank-1: {rank1:.2%}, rank-5: {rank5:.2%}")
            print(f"the {WORST_SHOWN} classes of the lowest F1 score, and the averages over all:")
            print(predictions.report(worst=WORST_SHOWN))
        else:
            print(text)
        files = self.output / self.name
        print(one_line(f"history, curve, report, predictions and options: {files}*"))

    def write_page(
        self,
        predictions: Predictions,
        epochs: int,
        images: Images,
        train_batches: TrainingBatches,
        preprocessor: MeanPreprocessor | ScalePreprocessor,
    ) -> None:
        """Keeps the predictions, and lays out what the run has come to: as HTML, the curve as PDF.

        What cannot be read or written for it is only warned of: both can be made again.

        Args:
            predictions: for `images`.
            epochs: that the network was trained.
            images: that the report is on, of which the worst mistakes are shown.
            train_batches: of which some images are shown.
            preprocessor: that was applied to them.
        """
        try:
            worst = predictions.mistakes(MISTAKES)
            mistakes = dict(zip(worst.tolist(), images[worst], strict=True))
            seen = train_batches.batch(epoch=0, index=0)[0][:EXAMPLES]
            kept = KeptPredictions(predictions, epochs, mistakes, preprocessor.restore(seen))
            if kept.readable:
                kept.write(self.files.predictions)
            else:
                print("note: there are too many predictions to keep, or to show on the page")
            saved = SavedRun.read(self.output, self.name)
            saved.write_curve()
            saved.write_page()
        except (OSError, UserError) as error:
            message = f"warning: the report was not laid out as HTML and PDF: {error}"
            print(one_line(message), file=sys.stderr)


def _given_model(experiment: Experiment, options: Options) -> str | None:
    usual = experiment.resolve(dataclasses.replace(options, model=None)).model
    given, usual = (path and os.path.abspath(path) for path in (options.model, usual))
    return None if given == usual else given


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
