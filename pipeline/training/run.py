"""One training run: where its files lie, what it may write, and the record of its options."""

import argparse
import dataclasses
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

from pipeline.backend import gpu_names, processor, uses_onednn
from pipeline.command_line import options
from pipeline.errors import UserError, one_line
from pipeline.files.atomic import write_atomically
from pipeline.files.checkpoints import best_path, checkpoints
from pipeline.files.lock import lock
from pipeline.files.modelfile import Checkpoint
from pipeline.training import history as histories
from pipeline.training.recipe import Recipe

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


class Run:
    """The files of a run and the lock on them.

    Making one takes the locks, creates the folders and checks that nothing of another run would be
    overwritten; nothing else is written yet.

    Args:
        script: the script's file name.
        args: the resolved options, with the locks that are held already.
        checkpoint: what the run goes on from.
        model_path: where the final model goes, if the run has one.
        name: what the results are named; by default after the script.
        recipe: what the run trains by; the options decide over its epochs, batch size and learning
            rate.

    Raises:
        UserError: another run is at work in the folders, or has left its results in them, or the
            recipe is not that of the checkpoint any more.
        OSError: a folder cannot be written.
    """

    def __init__(
        self,
        script: str,
        args: argparse.Namespace,
        checkpoint: Checkpoint | None,
        model_path: Path | None = None,
        name: str | None = None,
        recipe: Recipe | None = None,
    ):
        self.args = args
        self.checkpoint = checkpoint
        self.options = options.run_options(args, script) | {"backend": keras.backend.backend()}
        if recipe:
            self.options["recipe_parts"] = {
                part: value
                for part, value in dataclasses.asdict(recipe).items()
                if part not in options.OF_RECIPES  # the options decide over these
            }
        self.start_epoch = checkpoint.epoch if checkpoint else 0
        self.history = checkpoint.history if checkpoint else {}

        self.name = name or Path(script).stem
        output = Path(args.output)
        self.checkpoints = Path(args.checkpoints)
        self.history_path = output / f"{self.name}.json"
        self.curve_path = output / f"{self.name}.png"
        self.report_path = output / f"{self.name}_report.txt"
        self.options_path = output / f"{self.name}_options.json"
        # One folder may serve as both, and even one process cannot lock it twice.
        folders = dict.fromkeys((output.resolve(), self.checkpoints.resolve()))
        self._locks = [args.locks.get(folder) or lock(folder) for folder in folders]
        if model_path:
            model_path.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_to_overwrite(model_path)
        self._refuse_another_recipe()
        before = checkpoint.options.get("backend") if checkpoint else None
        if before and before != self.options["backend"]:
            print(f"  backend: {one_line(str(before))} -> {self.options['backend']}")

    def _refuse_to_overwrite(self, model_path: Path | None) -> None:
        another = "--resume goes on with it; a new run needs another --output"
        if self.history_path.exists():
            found = histories.read_history(self.history_path)
            if not (self.args.resume or self.checkpoint):
                raise UserError(
                    f"{self.history_path} holds the {histories.epochs(found)} epochs of an earlier "
                    f"run: {another}"
                )
            # A kill may have come between the first epoch's history and its checkpoint.
            only_begun = (
                not self.start_epoch
                and histories.epochs(found) == 1
                and not self.report_path.exists()
            )
            if not only_begun and histories.trimmed(found, self.start_epoch) != self.history:
                raise UserError(
                    f"{self.history_path} belongs to another run than the one that goes on here: "
                    "give this one another --output"
                )
        if self.checkpoint:
            return
        # A run that has not reached its first checkpoint has none of these, resumed or not.
        if model_path and model_path.exists():
            raise UserError(f"{model_path} is the model of an earlier run: give another --model")
        if found := checkpoints(self.checkpoints):
            raise UserError(
                f"{self.checkpoints} holds checkpoints of an earlier run up to epoch {max(found)}: "
                f"{another} or --checkpoints"
            )
        if (best := best_path(self.checkpoints)).exists():
            raise UserError(
                f"{best} is the best checkpoint of an earlier run: a new run needs another "
                "--output or --checkpoints"
            )

    def _refuse_another_recipe(self) -> None:
        trained = self.checkpoint.options.get("recipe_parts", {}) if self.checkpoint else {}
        for name, part in self.options.get("recipe_parts", {}).items():
            if (before := trained.get(name, part)) != part:
                raise UserError(
                    f"{self.checkpoint.path} was trained with {name} {before}, and its recipe has "
                    f"{part} now: put it back to go on, or start a run of its own without the "
                    "checkpoint"
                )

    def record(
        self, network: keras.Model, images_per_second: Sequence[float] | None = None
    ) -> None:
        """Writes the resolved options and all that the result depends on beside them.

        Args:
            network: the run's.
            images_per_second: speed by epoch since the start epoch, once the training has ended.
        """
        record = {
            "command": options.command_again(sys.argv),
            "options": self.options,
            "paths": {"output": self.args.output, "checkpoints": self.args.checkpoints},
            "start_epoch": self.start_epoch,
            "parameters": network.count_params(),
            "images_per_second": images_per_second,
            "devices": gpu_names() or [platform.machine()],
            "processor": {
                "name": processor.name(),
                "instruction_sets": processor.instruction_sets(),
            },
            "onednn": uses_onednn(),
            "python": platform.python_version(),
            "versions": _versions(),
            "commit": _commit(),
        }
        write_atomically(self.options_path, json.dumps(record, indent=2) + "\n")


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
