"""Starting a training script dozens of times a minute.

Each time in a process of its own, but forked from a server that has imported everything once:
TensorFlow alone takes seconds. In the server no operation of TensorFlow may run, as its threads
would not survive the fork.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
SLOW_IMPORTS = [
    "pipeline.evaluation.predictions",
    "pipeline.training.assembly",
    "pipeline.training.loop",
    "pipeline.nn.conv",
    "tensorflow",
]
PATIENCE = 600  # seconds that a process may take on a busy machine before it counts as hanging


@cache
def _server() -> ForkServerContext:
    """Starts the server.

    With a stderr that nobody reads: what TensorFlow says when it is imported must not be taken for
    what the test says that happens to be the first to start a script.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*SLOW_IMPORTS, "sklearn.datasets", "sklearn.model_selection"])
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        forkserver.ensure_running()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
    return context


def write_pictures(folder: Path) -> Path:
    """Writes a data set for --data whose epochs take no time: 32 and 16 images of 4 classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for brightness in (20, 80, 140, 200):
            place = folder / split / f"class_{brightness}"
            place.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(brightness, brightness + 40, (32, 32, 3), dtype=np.uint8)
                cv2.imwrite(str(place / f"{number}.png"), image)
    return folder


def start(
    script: str,
    *arguments: object,
    log: Path,
    errors: Path | None = None,
    first: Callable[[], object] | None = None,
) -> BaseProcess:
    """Starts a script.

    Args:
        script: its file name.
        arguments: its options.
        log: where its output goes.
        errors: where its stderr goes, if not there as well.
        first: called in the new process before the script starts; must be picklable.
    """
    arguments = [str(argument) for argument in arguments]
    process = _server().Process(
        target=_run, args=(script, arguments, log, errors, first), daemon=True
    )
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Waits for the end of a process and returns its exit status; a signal's number is negative."""
    process.join(timeout=PATIENCE)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def _run(
    script: str,
    arguments: list[str],
    log: Path,
    errors: Path | None,
    first: Callable[[], object] | None,
) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if errors else output, 2)
    os.chdir(ROOT)
    sys.argv = [script, *arguments]
    if first:
        first()
    runpy.run_path(script, run_name="__main__")
