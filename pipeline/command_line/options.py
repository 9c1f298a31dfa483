"""The command line of the training scripts: options defined once, and going on from a checkpoint.

Nothing here imports Keras, so that `--help` and wrong options are answered at once.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import UserError, one_line

if TYPE_CHECKING:
    from pipeline.files.modelfile import Checkpoint
    from pipeline.training.recipe import Recipe

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# What makes a run the run it is, beside the options that a script has defaults of its own for; a
# checkpoint brings these options back.
SHARED_RUN_OPTIONS = ("dataset", "data", "every", "seed", "precision")
# Of a run's options, what the weights in a checkpoint and the optimizer's variables depend on.
NETWORK_OPTIONS = ("dataset", "stages", "filters", "model", "recipe")

# What a recipe has a default of its own for.
OF_RECIPES = ("epochs", "batch_size", "learning_rate")


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


def training_parser(
    description: str,
    datasets: Sequence[str],
    defaults: dict,
    output: str,
    checkpoints: str,
    recipes: Mapping[str, Recipe] | None = None,
) -> Parser:
    """Makes the parser of a training script with the options that all of them share.

    Args:
        description: the script's docstring.
        datasets: choices of --dataset, the default first; none where the script has but one.
        defaults: values of epochs, batch_size and learning_rate, of stages and filters where the
            network has them to choose, and of options that the script adds itself and that a
            checkpoint is to bring back. With recipes, recipe instead of the first three.
        output: default folder of the results.
        checkpoints: default folder of the checkpoints, below the results' folder; `{option}`
            stands for an option's value.
        recipes: choices of --recipe, which supplies the defaults of the first three.
    """
    parser = Parser(description)
    add = parser.add_argument
    add("-c", "--checkpoints", metavar="FOLDER", help=f"default: OUTPUT/{checkpoints}")
    add("-o", "--output", default=output, metavar="FOLDER", help="results (default: %(default)s)")
    add("--resume", action="store_true", help="go on from the newest checkpoint, if there is one")
    if datasets:
        add("--dataset", choices=datasets, default=datasets[0], help="default: %(default)s")
        add("--data", metavar="PATH", help="local copy of the data set")
    add("--epochs", type=positive_int, metavar="N", help="epoch to reach (default: %(default)s)")
    add("--batch-size", type=positive_int, metavar="N", help="default: %(default)s")
    add("--learning-rate", type=_positive_float, metavar="LR", help="default: %(default)s")
    if recipes:
        shown = "brings defaults of its own for these three (default, and shown: %(default)s)"
        add("--recipe", choices=tuple(recipes), help=shown)
        defaults = {**_recipe_defaults(recipes[defaults["recipe"]]), **defaults}
    if "stages" in defaults:
        add_network_options(parser, defaults)
    add("--every", type=positive_int, default=5, metavar="N", help="keep every Nth checkpoint (5)")
    add("--seed", type=_seed, default=42, metavar="S", help="default: %(default)s")
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="default: %(default)s")
    add("--workers", type=positive_int, default=2, metavar="N", help="threads making batches (2)")
    run_options = [
        name for name in SHARED_RUN_OPTIONS if datasets or name not in ("dataset", "data")
    ]
    parser.set_defaults(
        **defaults,
        default_checkpoints=checkpoints,
        run_options=(*run_options, *defaults),
        recipes=recipes,
    )
    return parser


def add_network_options(parser: Parser, defaults: dict) -> None:
    """Adds --stages and --filters, with the defaults of these names."""
    add = parser.add_argument
    add("--stages", type=positive_int, nargs="+", metavar="N", help="residual modules a stage")
    add("--filters", type=positive_int, nargs="+", metavar="N", help="of stem and each stage")
    parser.set_defaults(stages=defaults["stages"], filters=defaults["filters"])


def add_checkpoint_options(parser: Parser) -> None:
    """Adds --model and --start_epoch, by which a watched run goes on from a checkpoint."""
    add = parser.add_argument
    add("-m", "--model", dest="checkpoint", metavar="FILE", help="checkpoint to go on from")
    add("-s", "--start_epoch", type=int, metavar="N", help="its epoch, to be checked")


def check_network(parser: Parser, args: argparse.Namespace) -> None:
    """Refuses --stages and --filters that `ResNet.build` would refuse, before Keras is loaded."""
    if "stages" not in args:
        return
    if len(args.filters) != len(args.stages) + 1:
        parser.error(
            "--filters takes one number for the stem and one a stage: "
            f"got {len(args.filters)} filters for {len(args.stages)} stages"
        )
    if any(number % 4 for number in args.filters[1:]):
        parser.error(f"--filters of the stages must be multiples of 4: got {_text(args.filters)}")


def positive_int(text: str) -> int:
    """Parses an integer from 1 up, as argparse's `type`."""
    return _number(text, int, 1)


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
        The options, and the checkpoint if training goes on from one. With --resume the options
        hold, as `locks` by folder, the lock under which the checkpoint was looked for.

    Raises:
        UserError: the checkpoint is missing, damaged, or at odds with the options, or another
            process is at work in the folder that --resume looks into.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parse(parser, argv)
    checkpoint = _checkpoint(parser, args)
    if checkpoint is None:
        check_network(parser, args)
        return args, None

    if checkpoint.options.get("script") != parser.prog:
        raise UserError(
            f"{checkpoint.path} was written by {checkpoint.options.get('script')}, "
            f"not by {parser.prog}"
        )
    remembered = _as_arguments(checkpoint, args.run_options)
    locks = args.locks
    saved, args = _parse(parser, remembered), _parse(parser, remembered + argv)
    args.locks = locks
    print(f"going on from {checkpoint.path}, epoch {checkpoint.epoch}")
    for name in args.run_options:
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
        print(f"  --learning-rate: {args.learning_rate} (the checkpoint's)")
    if checkpoint.epoch > args.epochs:
        raise UserError(
            f"{checkpoint.path} is at epoch {checkpoint.epoch} already, past --epochs {args.epochs}"
        )
    return args, checkpoint


def run_options(args: argparse.Namespace, script: str) -> dict:
    """Returns what a checkpoint keeps of the options."""
    return {"script": script} | {name: getattr(args, name) for name in args.run_options}


def command_to_go_on(
    argv: Sequence[str], args: argparse.Namespace, learning_rate: float | None = None
) -> str:
    """Returns the command that goes on from the newest checkpoint of the run started by `argv`.

    Args:
        argv: the command line, the script's name included.
        args: the options it was parsed to.
        learning_rate: as for `command_again`.
    """
    arguments = _without(argv[1:], "--resume", values=0)
    names_checkpoint = hasattr(args, "checkpoint")  # elsewhere --model means something else
    for option in ("-m", "--model", "-s", "--start_epoch") if names_checkpoint else ():
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


def _checkpoint(parser: Parser, args: argparse.Namespace) -> Checkpoint | None:
    named = getattr(args, "checkpoint", None)
    start_epoch = getattr(args, "start_epoch", None)
    if named and args.resume:
        parser.error("--model names a checkpoint and --resume looks for one: give one of them")
    if start_epoch is not None and not named:
        parser.error("--start_epoch goes with --model")
    if named:
        from pipeline.files.modelfile import read_checkpoint

        checkpoint = read_checkpoint(named)
        if start_epoch is not None and start_epoch != checkpoint.epoch:
            raise UserError(
                f"--start_epoch {start_epoch} contradicts {named}, "
                f"which has completed {checkpoint.epoch} epochs"
            )
        return checkpoint
    if args.resume:
        from pipeline.files.checkpoints import newest_checkpoint
        from pipeline.files.lock import lock

        folder = Path(args.checkpoints).resolve()
        if folder.is_dir():  # none is made yet, as the start may be refused
            # From now on: what another run writes after the reading would be trained once more.
            args.locks[folder] = lock(folder)
        checkpoint = newest_checkpoint(Path(args.checkpoints))
        if checkpoint is None:
            print(f"no checkpoint in {args.checkpoints} yet: starting with the first epoch")
        return checkpoint
    return None


def _parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    args = parser.parse_args(argv)
    if args.recipes:
        parser.set_defaults(**_recipe_defaults(args.recipes[args.recipe]))
        args = parser.parse_args(argv)
    if "stages" in args:
        args.stages, args.filters = list(args.stages), list(args.filters)
    default_checkpoints = args.default_checkpoints.format_map(vars(args))
    args.checkpoints = args.checkpoints or str(Path(args.output) / default_checkpoints)
    args.locks = {}
    return args


def _recipe_defaults(recipe: Recipe) -> dict:
    return {name: getattr(recipe, name) for name in OF_RECIPES}


def _as_arguments(checkpoint: Checkpoint, names: Sequence[str]) -> list[str]:
    # Typed anew, the options of a file pass the same checks as the user's.
    arguments = []
    for name, value in checkpoint.options.items():
        if name not in names or value is None or value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        texts = [str(element) for element in values]
        if any(text.startswith("-") for text in texts):  # it would pass for another option
            raise UserError(f"{checkpoint.path} is damaged: its {name} is {_text(value)}")
        arguments += [f"--{name.replace('_', '-')}", *texts]
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
