"""The command line of the training scripts: options defined once, and going on from a checkpoint.

Nothing here imports Keras, so that `--help` and wrong options are answered at once.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.io.modelfile import Checkpoint

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# What makes a run the run it is; a checkpoint brings these options back.
RUN_OPTIONS = (
    "dataset",
    "data",
    "epochs",
    "batch_size",
    "learning_rate",
    "stages",
    "filters",
    "every",
    "seed",
    "precision",
)
# Of these, what the weights in a checkpoint depend on.
NETWORK_OPTIONS = ("dataset", "stages", "filters")


class Parser(argparse.ArgumentParser):
    """A parser whose complaints take one line."""

    def error(self, message: str) -> NoReturn:
        """Prints the complaint and exits with status 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def training_parser(
    description: str,
    datasets: Sequence[str],
    defaults: dict,
    output: str,
    checkpoints: str,
) -> Parser:
    """Makes the parser of a training script with the options that all of them share.

    Args:
        description: the script's docstring.
        datasets: choices of --dataset, the default first.
        defaults: values of epochs, batch_size, learning_rate, stages and filters.
        output: default folder of the results.
        checkpoints: default folder of the checkpoints, below the results' folder.
    """
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-c", "--checkpoints", metavar="FOLDER", help=f"default: OUTPUT/{checkpoints}")
    add("-o", "--output", default=output, metavar="FOLDER", help="results (default: %(default)s)")
    add("--resume", action="store_true", help="go on from the newest checkpoint, if there is one")
    add("--dataset", choices=datasets, default=datasets[0], help="default: %(default)s")
    add("--data", metavar="PATH", help="local copy of the data set")
    add("--epochs", type=_positive_int, metavar="N", help="epoch to reach (default: %(default)s)")
    add("--batch-size", type=_positive_int, metavar="N", help="default: %(default)s")
    add("--learning-rate", type=_positive_float, metavar="LR", help="default: %(default)s")
    add("--stages", type=_positive_int, nargs="+", metavar="N", help="residual modules a stage")
    add("--filters", type=_positive_int, nargs="+", metavar="N", help="of the stem and each stage")
    add("--every", type=_positive_int, default=5, metavar="N", help="keep every Nth checkpoint (5)")
    add("--seed", type=_natural, default=42, metavar="S", help="default: %(default)s")
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="default: %(default)s")
    add("--workers", type=_positive_int, default=2, metavar="N", help="threads making batches (2)")
    parser.set_defaults(**defaults, default_checkpoints=checkpoints)
    return parser


def parse_training(
    parser: Parser, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, Checkpoint | None]:
    """Parses the command line, under which the options of the checkpoint to go on from lie.

    So the command line decides over the checkpoint, and the checkpoint over the defaults. What
    differs from the checkpoint is printed.

    Args:
        parser: from `training_parser`; a script may have added a `checkpoint` and a `start_epoch`.
        argv: the command line without the script's name.

    Returns:
        The options, and the checkpoint if training goes on from one.

    Raises:
        UserError: the checkpoint is missing, damaged, or at odds with the options.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _complete(parser, parser.parse_args(argv))
    checkpoint = _checkpoint(parser, args)
    if checkpoint is None:
        return args, None

    if checkpoint.options.get("script") != parser.prog:
        raise UserError(
            f"{checkpoint.path} was written by {checkpoint.options.get('script')}, "
            f"not by {parser.prog}"
        )
    saved = _complete(parser, parser.parse_args(_as_arguments(checkpoint.options)))
    args = _complete(parser, parser.parse_args(_as_arguments(checkpoint.options) + argv))
    print(f"going on from {checkpoint.path}, epoch {checkpoint.epoch}")
    for name in RUN_OPTIONS:
        option, old, new = f"--{name.replace('_', '-')}", getattr(saved, name), getattr(args, name)
        if old == new:
            continue
        if name in NETWORK_OPTIONS:
            raise UserError(
                f"{checkpoint.path} was trained with {option} {_text(old)}, and this run asks for "
                f"{_text(new)}: leave the option out to go on, or start a run of its own without "
                "the checkpoint"
            )
        print(f"  {option}: {_text(old)} -> {_text(new)}")
    if args.learning_rate == saved.learning_rate:
        print(f"  --learning-rate: {args.learning_rate:g} (the checkpoint's)")
    if checkpoint.epoch > args.epochs:
        raise UserError(
            f"{checkpoint.path} has already {checkpoint.epoch} epochs: "
            f"--epochs {args.epochs} lies behind it"
        )
    return args, checkpoint


def run_options(args: argparse.Namespace, script: str) -> dict:
    """Returns what a checkpoint keeps of the options."""
    return {"script": script} | {name: getattr(args, name) for name in RUN_OPTIONS}


def command_to_go_on(argv: Sequence[str], learning_rate: float | None = None) -> str:
    """Returns the command that goes on from the newest checkpoint of the run started by `argv`.

    Args:
        argv: the command line, the script's name included.
        learning_rate: shown as an option to edit; None leaves it out.
    """
    arguments = _without(argv[1:], "--resume", values=0)
    for option in ("-m", "--model", "-s", "--start_epoch") if learning_rate is not None else ():
        arguments = _without(arguments, option, values=1)
    arguments.append("--resume")
    if learning_rate is not None:
        arguments = _without(arguments, "--learning-rate", values=1)
        arguments += ["--learning-rate", f"{learning_rate:g}"]
    return command_again([argv[0], *arguments])


def command_again(argv: Sequence[str]) -> str:
    """Returns a command line as one would type it."""
    return "python " + shlex.join(argv)


def _checkpoint(parser: Parser, args: argparse.Namespace) -> Checkpoint | None:
    named = getattr(args, "checkpoint", None)
    start_epoch = getattr(args, "start_epoch", None)
    if named and args.resume:
        parser.error("--model names a checkpoint and --resume looks for one: give one of them")
    if start_epoch is not None and not named:
        parser.error("--start_epoch goes with --model")
    if named:
        from pipeline.io.modelfile import read_checkpoint

        checkpoint = read_checkpoint(named)
        if start_epoch is not None and start_epoch != checkpoint.epoch:
            raise UserError(
                f"--start_epoch {start_epoch} contradicts {named}, "
                f"which has completed {checkpoint.epoch} epochs"
            )
        return checkpoint
    if args.resume:
        from pipeline.io.checkpoints import newest_checkpoint

        checkpoint = newest_checkpoint(Path(args.checkpoints))
        if checkpoint is None:
            print(f"no checkpoint in {args.checkpoints} yet: starting with the first epoch")
        return checkpoint
    return None


def _complete(parser: Parser, args: argparse.Namespace) -> argparse.Namespace:
    """Checks what concerns several options, and derives what was not given."""
    if len(args.filters) != len(args.stages) + 1:
        parser.error(
            "--filters takes one number for the stem and one a stage: "
            f"got {len(args.filters)} filters for {len(args.stages)} stages"
        )
    if any(number % 4 for number in args.filters[1:]):
        parser.error(f"--filters of the stages must be multiples of 4: got {_text(args.filters)}")
    args.checkpoints = args.checkpoints or str(Path(args.output) / args.default_checkpoints)
    args.stages, args.filters = list(args.stages), list(args.filters)
    return args


def _as_arguments(options: dict) -> list[str]:
    # Typed anew, the options of a file pass the same checks as the user's.
    arguments = []
    for name, value in options.items():
        if name in RUN_OPTIONS and value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{name.replace('_', '-')}", *map(str, values)]
    return arguments


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
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _positive_int(text: str) -> int:
    return _number(text, int, 1)


def _natural(text: str) -> int:
    return _number(text, int, 0)


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
