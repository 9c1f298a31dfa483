"""The options of the scripts.

Nothing here imports Keras, so that `--help` and wrong options are answered at once.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from pipeline.errors import NetworkError, one_line
from pipeline.nn.spec import Architecture
from pipeline.training.experiment import Experiment, Options

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


class _HelpFormatter(argparse.HelpFormatter):
    """Fits a description's paragraphs to the terminal, and leaves what is indented as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(
            part if part.startswith(" ") else textwrap.fill(part, width) for part in paragraphs
        )


class Parser(argparse.ArgumentParser):
    """A parser whose complaints take one line, for a script that its docstring describes.

    Attributes:
        of_checkpoint: whose saved options are being parsed; None while the user's are.
    """

    of_checkpoint: Path | None = None

    def __init__(self, description: str):
        super().__init__(
            description=description,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parses a command line; to an option that there is not, the nearest one is named."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            near = [option for text in unknown if (option := self._nearest(text))]
            hint = f"; did you mean {' '.join(near)}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        for action in self._actions:
            if getattr(parsed, action.dest, None) == "":
                name = action.option_strings[-1] if action.option_strings else action.dest
                self.error(f"argument {name}: it is empty, as from a variable that is not set")
        return parsed

    def _nearest(self, text: str) -> str | None:
        if not text.startswith("-"):
            return None
        wrong = text.partition("=")[0].strip("-")
        options = [option for action in self._actions for option in action.option_strings]
        names = {option.strip("-"): option for option in options if option.startswith("--")}
        # --lr for --learning-rate; not the "l" of "-l".
        initials = {"".join(word[0] for word in name.split("-")): name for name in names}
        if len(wrong) > 1 and wrong in initials:
            return names[initials[wrong]]
        near = difflib.get_close_matches(wrong, names, 1)
        return names[near[0]] if near else None

    def error(self, message: str) -> NoReturn:
        """Prints the complaint and exits with status 2."""
        if self.of_checkpoint:
            complaint = f"{self.of_checkpoint} is damaged, or of another version: {message}"
        else:
            complaint = f"{message} (see {self.prog} --help)"
        self.exit(2, one_line(f"error: {complaint}") + "\n")


def training_parser(description: str, experiment: Experiment) -> Parser:
    """Makes the parser of a training script.

    Args:
        description: the script's docstring.
        experiment: whose values are the options' defaults. Where it has but one data set or recipe,
            there is no option for it, and likewise for the stages of a network that has none.
    """
    parser = Parser(description)
    _add_data_options(parser.add_argument_group("data"), experiment)
    _add_training_options(parser.add_argument_group("training"), experiment)
    _add_result_options(parser.add_argument_group("results and checkpoints"), experiment)
    _add_machine_options(parser.add_argument_group("machine"))
    parser.set_defaults(**vars(experiment.resolve(Options())))
    return parser


def _add_data_options(group: argparse._ArgumentGroup, experiment: Experiment) -> None:
    add = group.add_argument
    if len(experiment.datasets) > 1:
        names = tuple(experiment.datasets)
        add("--dataset", choices=names, help="what to train on (default: %(default)s)")
    if experiment.size:
        default = "%(default)s" if experiment.data else "a sample"
        what = "pictures in FOLDER/<class>/ or FOLDER/{train,val,test}/<class>/, packed or not"
        if experiment.builder:
            what = f"where {experiment.builder} has packed the pictures"
        described = f"{what} (default: {default})"
        add("--images", "--data", dest="data", metavar="FOLDER", help=described)
        size = "width and height that pictures are resized to, in pixels (default: %(default)s)"
        add("--size", type=positive_int, metavar="N", help=size)
        held = "share of each class to validate on where there is no folder val "
        held += "(default: %(default)s)"
        add("--holdout", type=_share, metavar="SHARE", help=held)
    elif experiment.data:
        add(
            "--hdf5",
            "--data",
            dest="data",
            metavar="FOLDER",
            help=f"where {experiment.builder} has put its files (default: %(default)s)",
        )
    else:
        add(
            "--data",
            metavar="PATH",
            help="local copy of the data set: folder, archive, or a folder of pictures with a "
            "subfolder for each class (default: Keras's cache, filled by a download)",
        )
    if experiment.size or not experiment.data:
        add_skip_bad_option(group)


def _add_training_options(group: argparse._ArgumentGroup, experiment: Experiment) -> None:
    add = group.add_argument
    if len(experiment.recipes) > 1:
        brings = "way of training, with its own epochs, batch size and rate (default: %(default)s)"
        add("--recipe", choices=tuple(experiment.recipes), help=brings)
    epochs = "epoch to reach, counted from the start of the run (default: %(default)s)"
    add("--epochs", type=positive_int, metavar="N", help=epochs)
    size = "images a training step (default: %(default)s)"
    add("--batch-size", type=positive_int, metavar="N", help=size)
    rate = "peak learning rate, such as 0.01 (default: %(default)s)"
    if experiment.watched:
        rate = "learning rate from here on, such as 0.01 (default: %(default)s)"
    add("--learning-rate", type=_positive_float, metavar="LR", help=rate)
    if experiment.networks:
        networks = tuple(experiment.networks)
        brings = "network, with its own stages and filters (default: those below)"
        add("--network", choices=networks, help=brings)
    if experiment.architecture.stages:
        add_network_options(group, experiment.architecture)
    if experiment.size:
        start = "trained model of the same network to start from, with a new classifier"
        add("--weights", metavar="FILE", help=start)
        alike = "weight the loss so that every class counts the same"
        add("--class-weights", choices=("balanced",), help=alike)
        end = "stop once the validation accuracy has not risen for N epochs"
        add("--patience", type=positive_int, metavar="N", help=end)
    seed = "seed of all that is random; the same seed gives the same run (default: %(default)s)"
    add("--seed", type=_seed, metavar="S", help=seed)


def _add_result_options(group: argparse._ArgumentGroup, experiment: Experiment) -> None:
    add = group.add_argument
    add("-o", "--output", metavar="FOLDER", help="where results go (default: %(default)s)")
    checkpoints = f"where checkpoints go (default: OUTPUT/{experiment.checkpoints})"
    add("-c", "--checkpoints", metavar="FOLDER", help=checkpoints)
    every = "keep the checkpoint of every Nth epoch (default: %(default)s)"
    add("--every", type=positive_int, metavar="N", help=every)
    minutes = "also write a checkpoint every M minutes within an epoch (default: %(default)g)"
    add("--checkpoint-minutes", type=_positive_float, metavar="M", help=minutes)
    resume = "continue from the newest checkpoint; options that are not given are its run's"
    if not experiment.watched:
        resume += "; start if there is no checkpoint yet"
    add("--resume", action="store_true", help=resume)
    final = f"OUTPUT/{experiment.model}"
    if experiment.watched:
        named = "continue from this checkpoint; later ones are moved to a subfolder"
        if experiment.model:
            named += f"; the final model always goes to {final}"
        add("-m", "--model", dest="checkpoint", metavar="FILE", help=named)
        add(
            "-s",
            "--start-epoch",
            "--start_epoch",
            type=int,
            metavar="N",
            help="with --model: refuse the checkpoint unless it is of epoch N",
        )
    elif experiment.model:
        final = f"where the final model goes (default: {final})"
        add("-m", "--model", metavar="FILE", help=final)


def _add_machine_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    precision = "bfloat16 for GPUs, and CPUs that have it; float16 for GPUs (default: %(default)s)"
    add("--precision", choices=PRECISIONS, help=precision)
    workers = "threads that prepare batches (default: %(default)s)"
    add("--workers", type=positive_int, metavar="N", help=workers)
    devices = "use N GPUs in each process (default: all)"
    add("--devices", type=positive_int, metavar="N", help=devices)
    place = "for several processes (JAX): host and a free port of process 0; "
    place += "not needed under Slurm or Open MPI"
    add("--coordinator", metavar="HOST:PORT", help=place)
    number = "with --coordinator: number of processes"
    add("--processes", type=positive_int, metavar="N", help=number)
    add("--process", type=_rank, metavar="I", help="with --coordinator: number of this one, from 0")


def add_packing_options(parser: Parser, default: str | None = None) -> None:
    """Adds the options of packing photographs; see `pack_photographs`.

    Args:
        parser: of a script.
        default: what the script takes as --hdf5 if it is left out, for the help; None requires it.
    """
    add = parser.add_argument
    where = f"where the files go{f' (default: {default})' if default else ''}"
    add("--hdf5", required=not default, metavar="FOLDER", help=where)
    smaller = "shrink larger pictures, as JPEG, to a short side of N pixels (default: keep them)"
    add("--short-side", type=positive_int, metavar="N", help=smaller)
    add_skip_bad_option(parser)


def add_skip_bad_option(group: Parser | argparse._ArgumentGroup) -> None:
    """Adds --skip-bad, which scripts that read pictures have."""
    skip = "leave out pictures that cannot be used"
    group.add_argument("--skip-bad", action="store_true", help=skip)


def add_network_options(
    group: Parser | argparse._ArgumentGroup, architecture: Architecture | None = None
) -> None:
    """Adds --stages and --filters, whose defaults are an architecture's if one is given."""
    stages, filters = "residual modules in each stage", "filters of the stem and of each stage"
    if architecture:
        stages += f" (default: {as_typed(architecture.stages)})"
        filters += f" (default: {as_typed(architecture.filters)})"
    group.add_argument("--stages", type=positive_int, nargs="+", metavar="N", help=stages)
    group.add_argument("--filters", type=positive_int, nargs="+", metavar="N", help=filters)


def chosen_network(
    parser: Parser, architecture: Architecture, args: argparse.Namespace | Options
) -> Architecture:
    """Returns an architecture with the --stages and --filters that were given, if any.

    What `ResNet.build` would refuse ends the script here, before Keras is loaded.
    """
    given = {name: getattr(args, name) for name in ("stages", "filters")}
    try:
        return replace(
            architecture, **{name: tuple(numbers) for name, numbers in given.items() if numbers}
        )
    except NetworkError as error:
        parser.error(f"--stages and --filters: {error}")


def positive_int(text: str) -> int:
    """Parses an integer from 1 up, as argparse's `type`."""
    return _number(text, int, 1)


def existing_file(text: str) -> str:
    """Returns the path of a file that is there, as argparse's `type`."""
    if not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"{text}: there is no such file")
    return text


def parse_cluster(
    parser: Parser, argv: Sequence[str] | None = None
) -> tuple[str | None, int | None, int | None]:
    """Returns --coordinator, --processes and --process, which are given together or not at all.

    Anything else that is wrong with the command line ends the script here, before the other
    processes are waited for.
    """
    args = parser.parse_args(argv)
    cluster = (args.coordinator, args.processes, args.process)
    if cluster != (None, None, None):
        if None in cluster:
            parser.error("--coordinator, --processes and --process go together")
        if args.process >= args.processes:
            parser.error(f"--process {args.process} of {args.processes}: they count from 0")
        host, _, port = args.coordinator.rpartition(":")
        if not (host and port.isdecimal()):
            parser.error(f"--coordinator {args.coordinator}: give a host and a port, as node1:1234")
    return cluster


def as_typed(value: object) -> str:
    """Returns an option's value, or its values, as they are typed."""
    return one_line(" ".join(map(str, value if isinstance(value, (list, tuple)) else [value])))


def _rank(text: str) -> int:
    return _number(text, int, 0)


def _seed(text: str) -> int:
    seed = _number(text, int, 0)
    if seed >= 2**32:  # NumPy's limit
        raise argparse.ArgumentTypeError(f"{text} is above {2**32 - 1}")
    return seed


def _positive_float(text: str, end: float = math.inf, what: str = "a positive number") -> float:
    value = _number(text, float, 0)
    if not 0 < value < end:
        raise argparse.ArgumentTypeError(f"{text} is not {what}")
    return value


def _share(text: str) -> float:
    return _positive_float(text, 1, "between 0 and 1")


def _number(text: str, kind: type, least: int) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        what, hint = "a whole number", ""
        if kind is float:
            what = "a number"
        if "," in text:
            point = text.replace(",", ".")
            hint = (
                f": write {point}" if kind is float else ": no commas, and spaces between several"
            )
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}{hint}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is below {least}")
    return value
