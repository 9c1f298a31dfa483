"""The command line of the training scripts: their options, and going on from a checkpoint.

Nothing here imports Keras, so that `--help` and wrong options are answered at once.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from pipeline.errors import NetworkError, UserError, one_line
from pipeline.nn.spec import Architecture
from pipeline.training.experiment import REMEMBERED, Experiment, Options

if TYPE_CHECKING:
    from pipeline.files.modelfile import Checkpoint

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# Which of a run's options the weights in a checkpoint and the optimizer's variables depend on.
OF_THE_NETWORK = ("dataset", "stages", "filters", "recipe")
# What options were called by earlier versions, whose checkpoints still have them.
FORMER_NAMES = {"hdf5": "data"}


class Parser(argparse.ArgumentParser):
    """A parser whose complaints take one line, for a script that its docstring describes."""

    def __init__(self, description: str):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Prints the complaint and exits with status 2."""
        self.exit(2, one_line(f"error: {message} (see {self.prog} --help)") + "\n")


def training_parser(description: str, experiment: Experiment) -> Parser:
    """Makes the parser of a training script.

    Args:
        description: the script's docstring.
        experiment: whose values are the options' defaults. Where it has but one data set or recipe,
            there is no option for it, and likewise for the stages of a network that has none.
    """
    defaults = experiment.resolve(Options())
    parser = Parser(description)
    add = parser.add_argument
    add("-o", "--output", metavar="FOLDER", help="results (default: %(default)s)")
    checkpoints = f"default: OUTPUT/{experiment.checkpoints}"
    add("-c", "--checkpoints", metavar="FOLDER", help=checkpoints)
    add("--resume", action="store_true", help="go on from the newest checkpoint, if there is one")
    if experiment.watched:
        add("-m", "--model", dest="checkpoint", metavar="FILE", help="checkpoint to go on from")
        add(
            "-s",
            "--start-epoch",
            "--start_epoch",
            type=int,
            metavar="N",
            help="its epoch, to be checked",
        )
    elif experiment.model:
        final = f"where the final model goes (default: OUTPUT/{experiment.model})"
        add("-m", "--model", metavar="FILE", help=final)
    if len(experiment.datasets) > 1:
        add("--dataset", choices=tuple(experiment.datasets), help="default: %(default)s")
    if experiment.data:
        add(
            "--hdf5",
            "--data",
            dest="data",
            metavar="FOLDER",
            help="the built files (default: %(default)s)",
        )
    else:
        add("--data", metavar="PATH", help="local copy of the data set")
    if len(experiment.recipes) > 1:
        brings = "brings defaults of its own for the next three (default, and shown: %(default)s)"
        add("--recipe", choices=tuple(experiment.recipes), help=brings)
    add("--epochs", type=positive_int, metavar="N", help="epoch to reach (default: %(default)s)")
    add("--batch-size", type=positive_int, metavar="N", help="default: %(default)s")
    add("--learning-rate", type=_positive_float, metavar="LR", help="default: %(default)s")
    if experiment.architecture.stages:
        add_network_options(parser)
    add("--every", type=positive_int, metavar="N", help="keep every Nth checkpoint (%(default)s)")
    add("--seed", type=_seed, metavar="S", help="default: %(default)s")
    add("--precision", choices=PRECISIONS, help="default: %(default)s")
    add("--workers", type=positive_int, metavar="N", help="threads making batches (%(default)s)")
    parser.set_defaults(**vars(defaults))
    return parser


def add_network_options(parser: Parser) -> None:
    """Adds --stages and --filters."""
    add = parser.add_argument
    add("--stages", type=positive_int, nargs="+", metavar="N", help="residual modules a stage")
    add("--filters", type=positive_int, nargs="+", metavar="N", help="of stem and each stage")


def chosen_network(
    parser: Parser, architecture: Architecture, args: argparse.Namespace | Options
) -> Architecture:
    """Returns an architecture with the --stages and --filters that were given, if any.

    What `ResNet.build` would refuse ends the script here, before Keras is loaded.
    """
    given = {name: getattr(args, name) for name in ("stages", "filters")}
    try:
        return replace(architecture, **{name: tuple(of) for name, of in given.items() if of})
    except NetworkError as error:
        parser.error(f"--stages and --filters: {error}")


def positive_int(text: str) -> int:
    """Parses an integer from 1 up, as argparse's `type`."""
    return _number(text, int, 1)


def parse_training(
    parser: Parser, experiment: Experiment, argv: Sequence[str] | None = None
) -> tuple[Options, Checkpoint | None, dict[Path, TextIO]]:
    """Parses the command line, under which the options of the checkpoint to go on from lie.

    So the command line decides over the checkpoint, and the checkpoint over the defaults. What
    differs from the checkpoint is printed.

    Args:
        parser: from `training_parser`.
        experiment: the one that the parser was made for.
        argv: the command line without the script's name.

    Returns:
        The options, resolved; the checkpoint if training goes on from one; and the locks, by
        folder, under which the checkpoint was looked for.

    Raises:
        UserError: the checkpoint is missing, damaged, or at odds with the options, or another
            process is at work in the folder that --resume looks into.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(argv)
    options = _options(parser, experiment, argv)
    checkpoint, locks = _checkpoint(parser, args, options)
    if checkpoint is None:
        chosen_network(parser, experiment.architecture, options)
        return options, None, locks

    if checkpoint.options.get("script") != parser.prog:
        raise UserError(
            f"{checkpoint.path} was written by {checkpoint.options.get('script')}, "
            f"not by {parser.prog}"
        )
    arguments = _as_arguments(parser, checkpoint)
    # In the same output folder, below which the model lies if nothing else is said.
    saved = _options(parser, experiment, [*arguments, f"--output={options.output}"])
    options = _options(parser, experiment, arguments + argv)
    print(f"going on from {checkpoint.path}, epoch {checkpoint.epoch}")
    changed = []
    for name, option in _flags(parser).items():
        old, new = getattr(saved, name), getattr(options, name)
        if old == new:
            continue
        if name in OF_THE_NETWORK:
            raise UserError(
                f"{checkpoint.path} was trained with {option} {_text(old)}, and this run asks for "
                f"{_text(new)}: leave the option out to go on, or start a run of its own without "
                "the checkpoint"
            )
        changed.append(f"  {option}: {_text(old)} -> {_text(new)}")
    if checkpoint.epoch > options.epochs:
        raise UserError(
            f"{checkpoint.path} is at epoch {checkpoint.epoch} already, past --epochs "
            f"{options.epochs}"
        )
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
    parser: Parser, args: argparse.Namespace, options: Options
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
        from pipeline.files.checkpoints import newest_checkpoint
        from pipeline.files.lock import lock, real

        folder = real(Path(options.checkpoints))
        if folder.is_dir():  # none is made yet, as the start may be refused
            # From now on: what another run writes after the reading would be trained once more.
            locks[folder] = lock(folder)
        checkpoint = newest_checkpoint(Path(options.checkpoints))
        if checkpoint is None:
            print(f"no checkpoint in {options.checkpoints} yet: starting with the first epoch")
        return checkpoint, locks
    return None, locks


def _options(parser: Parser, experiment: Experiment, argv: Sequence[str]) -> Options:
    # The parser's own defaults are for its help; what an option depends on may be given, too.
    args = parser.parse_args(argv, argparse.Namespace(**vars(Options())))
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
        if flag is None or value is None:
            continue
        texts = [str(element) for element in (value if isinstance(value, list) else [value])]
        if any(text.startswith("-") for text in texts):  # it would pass for another option
            raise UserError(f"{checkpoint.path} is damaged: its {name} is {_text(value)}")
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


def _text(value: object) -> str:
    return one_line(" ".join(map(str, value if isinstance(value, (list, tuple)) else [value])))


def _seed(text: str) -> int:
    seed = _number(text, int, 0)
    if seed >= 2**32:  # NumPy's limit
        raise argparse.ArgumentTypeError(f"{text} is above {2**32 - 1}")
    return seed


def _positive_float(text: str) -> float:
    value = _number(text, float, 0)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _number(text: str, kind: type, least: int) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of type {kind.__name__}"
        ) from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is below {least}")
    return value
