"""A training script from its command line to its exit."""

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from pipeline import backend
from pipeline.command_line import script
from pipeline.command_line.options import Parser, parse_cluster, training_parser
from pipeline.command_line.resuming import command_again, command_to_go_on, parse_training
from pipeline.errors import Diverged, Interrupted, Stopped, UserError
from pipeline.streams import silence
from pipeline.training.experiment import Experiment, train

# What errors say of libraries by which processes exchange their sums.
SIGNS_OF_LOSS = ("Gloo", "NCCL", "coordination service")
# In seconds. Once process 0 has gone, the others cannot even say what was wrong.
PARTING = 2


def run_training(description: str, experiment: Experiment) -> None:
    """Trains what the command line asks for, and exits as `script.run` does.

    Args:
        description: the script's docstring.
        experiment: what the script trains.
    """
    parser = training_parser(description, experiment)
    script.run(lambda: parse_and_train(parser, experiment))


def parse_and_train(
    parser: Parser, experiment: Experiment, argv: Sequence[str] | None = None
) -> None:
    """Trains what a command line asks for.

    Args:
        parser: of the script, from `training_parser`.
        experiment: what the script trains.
        argv: the command line without the script's name.

    Raises:
        UserError: see `pipeline.training.experiment.train`; divergence is among them.
        Interrupted: a signal ended the training; how to go on has been printed.
    """
    process = backend.join(*parse_cluster(parser, argv))
    if process is None:
        _parse_and_train(parser, experiment, argv, chief=True)
        return
    with _ending_alone(process):
        if process:
            silence(sys.stdout)
        _parse_and_train(parser, experiment, argv, chief=process == 0)


def _parse_and_train(
    parser: Parser, experiment: Experiment, argv: Sequence[str] | None, chief: bool
) -> None:
    options, checkpoint, locks = parse_training(parser, experiment, argv, locked=chief)
    backend.start(options.precision)
    try:
        train(
            experiment,
            options,
            checkpoint,
            script=parser.prog,
            command=command_again(sys.argv),
            locks=locks,
        )
    except Interrupted as stop:
        rate = options.learning_rate if experiment.watched else None
        place, command = _way_on(stop, experiment, rate)
        with suppress(OSError):  # the terminal may be gone
            print(f"{place}; go on with\n  {command}", flush=True)
        raise
    except Diverged as stop:
        lower = float(f"{options.learning_rate / 10:g}")
        place, command = _way_on(stop, experiment, lower)
        raise UserError(f"{stop}; {place}; with a lower rate: {command}") from stop


@contextmanager
def _ending_alone(process: int) -> Iterator[None]:
    """Ends one of several processes at once if an error ends its work.

    In good order it would wait for the others, while they wait for what it was to do.
    """
    try:
        yield
    except Interrupted:  # as all of them are
        raise
    except Exception as error:
        if any(sign in str(error) for sign in SIGNS_OF_LOSS):
            error = UserError(
                "another process of this run has ended or is out of reach: start all of them "
                f"again, with --resume; {error}"
            )
        status = script.status_of(error)
        if status is None:
            traceback.print_exc()
        if process == 0:
            time.sleep(PARTING)
        sys.stdout.flush()
        os._exit(status or 1)


def _way_on(stop: Stopped, experiment: Experiment, learning_rate: float | None) -> tuple[str, str]:
    """Returns where a run that has stopped stands, and the command that goes on from there.

    Args:
        stop: what ended the run.
        experiment: what it trains.
        learning_rate: shown in the command, to be edited; None leaves it out.
    """
    if not stop.advanced:
        # Without --resume, which could find the checkpoints of a branch that this run was to leave.
        after = f" after {stop.checkpoint}" if stop.checkpoint else ""
        return f"no epoch was completed{after}", command_again(sys.argv, learning_rate)
    command = command_to_go_on(sys.argv, experiment.watched, learning_rate)
    what = "the last completed epoch"
    if stop.batch:
        what = f"training up to batch {stop.batch} of the epoch"
    return f"{what} is in {stop.checkpoint}", command
