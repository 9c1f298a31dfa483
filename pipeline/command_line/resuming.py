"""Options that lie over those of a checkpoint, and the command by which a run goes on.

Nothing here imports Keras, so that wrong options are answered at once.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.command_line.options import Parser, as_typed, chosen_network
from pipeline.errors import UserError, one_line
from pipeline.files.resultfiles import ResultFiles
from pipeline.training.experiment import FIXED_OPTIONS, REMEMBERED, Experiment, Options

if TYPE_CHECKING:
    from pipeline.files.modelfile import Checkpoint

# What options were called by earlier versions, whose checkpoints still have them.
FORMER_NAMES = {"hdf5": "data"}


def parse_training(
    parser: Parser,
    experiment: Experiment,
    argv: Sequence[str] | None = None,
    locked: bool = True,
) -> tuple[Options, Checkpoint | None, dict[Path, TextIO]]:
    """Parses the command line, under which the options of the checkpoint to go on from lie.

    So the command line decides over the checkpoint, and the checkpoint over the defaults. What
    differs from the checkpoint is printed.

    Args:
        parser: from `training_parser`.
        experiment: the one that the parser was made for.
        argv: the command line without the script's name.
        locked: whether this process locks the folder that it looks for a checkpoint in; of several
            processes only one does.

    Returns:
        The options, resolved; the checkpoint if training goes on from one; and the locks, by
        folder, under which the checkpoint was looked for.

    Raises:
        UserError: the checkpoint is missing, damaged, or at odds with the options, or another
            process is at work in the folder that --resume looks into.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parsed(parser, argv)
    options = _options(experiment, args)
    _refuse_files(options)
    checkpoint, locks = _checkpoint(parser, args, options, experiment, locked)
    if checkpoint is None:
        chosen_network(parser, experiment.architecture, options)
        if options.weights and not os.path.exists(options.weights):
            raise UserError(f"--weights {options.weights}: there is no such file")
        _require_data(parser, experiment, options)
        return options, None, locks

    if checkpoint.options.get("script") != parser.prog:
        raise UserError(
            f"{checkpoint.path} was written by {checkpoint.options.get('script')}, "
            f"not by {parser.prog}"
        )
    arguments = _as_arguments(parser, checkpoint)
    # In the same output folder, below which the model lies if nothing else is said.
    parser.of_checkpoint = checkpoint.path
    saved = _options(experiment, _parsed(parser, [*arguments, f"--output={options.output}"]))
    parser.of_checkpoint = None
    options = _options(experiment, _parsed(parser, arguments + argv))
    amid = f" and batch {checkpoint.batch} of the next" if checkpoint.batch else ""
    print(one_line(f"going on from {checkpoint.path}, epoch {checkpoint.epoch}{amid}"))
    changed = []
    for name, option in _flags(parser).items():
        old, new = getattr(saved, name), getattr(options, name)
        paths = name in ("data", "model", "weights") and old and new
        if old == new or (paths and os.path.abspath(old) == os.path.abspath(new)):
            continue
        if name in FIXED_OPTIONS:
            raise UserError(
                f"{checkpoint.path} was trained with {option} {as_typed(old)}, and this run asks "
                f"for {as_typed(new)}: leave the option out to continue, or start a new run with "
                "another --output"
            )
        changed.append(f"  {option}: {as_typed(old)} -> {as_typed(new)}")
    checkpoint.refuse_past(options.epochs)
    at_the_end = ("  --epochs:", "  --model:")  # these mean something when nothing is left to train
    useless = [line for line in changed if not line.startswith(at_the_end)]
    if useless and checkpoint.epoch == options.epochs:
        raise UserError(
            f"{checkpoint.path} is at epoch {checkpoint.epoch} of {options.epochs} already, and "
            f"nothing is left to train with{useless[0][1:]}: raise --epochs"
        )
    if options.learning_rate == saved.learning_rate:
        changed.append(f"  --learning-rate: {options.learning_rate} (the checkpoint's)")
    print(*changed, sep="\n")
    _require_data(parser, experiment, options)
    return options, checkpoint, locks


def command_to_go_on(argv: Sequence[str], watched: bool, learning_rate: float | None = None) -> str:
    """Returns the command that goes on from the newest checkpoint of the run started by `argv`.

    Args:
        argv: the command line, the script's name included.
        watched: whether --model names the checkpoint that the run went on from.
        learning_rate: as for `command_again`.
    """
    arguments = _without(argv[1:], "--resume", values=0)
    for option in ("-m", "--model", "-s", "--start-epoch", "--start_epoch") if watched else ():
        arguments = _without(arguments, option, values=1)
    return command_again([argv[0], *arguments, "--resume"], learning_rate)


def command_again(argv: Sequence[str], learning_rate: float | None = None) -> str:
    """Returns a command line as one would type it.

    Args:
        argv: the command line, the script's name included.
        learning_rate: shown as the last option, to be edited; None leaves the command as it was.
    """
    if learning_rate is not None:
        argv = [*_without(argv, "--learning-rate", values=1), "--learning-rate"]
        argv.append(str(learning_rate))
    backend = os.environ.get("KERAS_BACKEND")
    chosen = f"KERAS_BACKEND={shlex.quote(backend)} " if backend else ""
    return f"{chosen}python {shlex.join(argv)}"


def _checkpoint(
    parser: Parser,
    args: argparse.Namespace,
    options: Options,
    experiment: Experiment,
    locked: bool,
) -> tuple[Checkpoint | None, dict[Path, TextIO]]:
    named = getattr(args, "checkpoint", None)
    start_epoch = getattr(args, "start_epoch", None)
    locks = {}
    if named and args.resume:
        parser.error("--model names a checkpoint and --resume looks for one: give one of them")
    if start_epoch is not None and not named:
        parser.error("--start-epoch goes with --model")
    if named:
        from pipeline.files.modelfile import read_checkpoint

        checkpoint = read_checkpoint(named)
        if start_epoch is not None and start_epoch != checkpoint.epoch:
            raise UserError(
                f"--start-epoch {start_epoch} contradicts {named}, "
                f"which has completed {checkpoint.epoch} epochs"
            )
        return checkpoint, locks
    if args.resume:
        from pipeline.files.lock import lock_before_reading

        folder = Path(options.checkpoints)
        if locked:
            lock_before_reading(folder, locks)

        from pipeline.files.checkpoints import newest_checkpoint  # slow to import

        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            # Whoever watches a run knows whether it has begun: it is the folder that is mistyped.
            # But a kill may have come between the first epoch's history and its checkpoint.
            begun = ResultFiles(Path(options.output), experiment.name).history.exists()
            if experiment.watched and not begun:
                raise UserError(
                    f"no checkpoint in {options.checkpoints}: name the folder of the run with "
                    "--output or --checkpoints, or start a new one without --resume"
                )
            place = one_line(str(options.checkpoints))
            print(f"no checkpoint in {place} yet: starting with the first epoch")
        return checkpoint, locks
    return None, locks


def _refuse_files(options: Options) -> None:
    for flag, folder in (("--output", options.output), ("--checkpoints", options.checkpoints)):
        if Path(folder).is_file():
            raise UserError(f"{flag} {folder} is a file: name a folder")


def _require_data(parser: Parser, experiment: Experiment, options: Options) -> None:
    # A reader says it better, but only after Keras is loaded.
    if options.data is None:
        return
    if not Path(options.data).exists():
        missing = "there is no such file or folder"
        missing += "" if os.path.isabs(options.data) else f" in {os.getcwd()}"
    elif experiment.builder and not any(Path(options.data).glob("*.hdf5")):
        missing = "it holds no HDF5 file"
    else:
        return
    way_out = f"; {experiment.builder} makes it" if experiment.builder else ""
    raise UserError(f"{_flags(parser)['data']} {options.data}: {missing}{way_out}")


def _parsed(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    # The parser's own defaults are for its help; what an option depends on may be given, too.
    return parser.parse_args(argv, argparse.Namespace(**vars(Options())))


def _options(experiment: Experiment, args: argparse.Namespace) -> Options:
    given = {field.name: getattr(args, field.name) for field in fields(Options)}
    for name in ("stages", "filters"):
        given[name] = given[name] and tuple(given[name])
    return experiment.resolve(Options(**given))


def _flags(parser: Parser) -> dict[str, str]:
    """Returns the flags of the options that a checkpoint remembers, as far as there are any."""
    flags = {
        action.dest: flag
        for action in parser._actions
        for flag in reversed(action.option_strings)
        if flag.startswith("--")
    }
    return {name: flags[name] for name in REMEMBERED if name in flags}


def _as_arguments(parser: Parser, checkpoint: Checkpoint) -> list[str]:
    # Typed anew, the options of a file pass the same checks as the user's.
    arguments = []
    flags = _flags(parser)
    for name, value in checkpoint.options.items():
        flag = flags.get(FORMER_NAMES.get(name, name))
        if flag is None or value in (None, ""):
            continue
        if isinstance(value, bool):
            arguments += [flag] if value else []
            continue
        texts = [str(element) for element in (value if isinstance(value, list) else [value])]
        # It would pass for another option, or is no path.
        if any(text.startswith("-") or "\0" in text for text in texts):
            raise UserError(f"{checkpoint.path} is damaged: its {name} is {as_typed(value)}")
        arguments += [flag, *texts]
    return [*arguments, *_former_recipe(checkpoint)]


def _former_recipe(checkpoint: Checkpoint) -> list[str]:
    """Returns the recipe for what ResNet-18's runs once had two options for."""
    augment = bool(checkpoint.options.get("augment"))
    linear = checkpoint.options.get("schedule", "constant") != "constant"
    if augment != linear:
        raise UserError(
            f"{checkpoint.path} was trained by a recipe that there no longer is: --augment and "
            "--schedule linear now go together, as --recipe augmented"
        )
    return ["--recipe", "augmented"] if augment else []


def _without(arguments: Sequence[str], option: str, values: int) -> list[str]:
    kept, skip = [], 0
    for argument in arguments:
        if skip:
            skip -= 1
        elif argument == option:
            skip = values
        elif not argument.startswith(f"{option}=") and not _glued(argument, option):
            kept.append(argument)
    return kept


def _glued(argument: str, option: str) -> bool:
    return len(option) == 2 and len(argument) > 2 and argument.startswith(option)
