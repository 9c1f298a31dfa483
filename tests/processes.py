"""Running the scripts as a user does: in processes of their own, and interrupted."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import forkedscript
from forkedscript import ROOT
from signalled import signal_in

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


def start(*command: object, backend: str = "tensorflow") -> subprocess.Popen:
    """Starts Python with a script and its options."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> subprocess.CompletedProcess:
    stdout, stderr = process.communicate(timeout=forkedscript.PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run(script: str, *arguments: object, backend: str = "tensorflow") -> str:
    """Runs a script to its end; returns what it printed."""
    if backend != "tensorflow":
        done = finish(start(script, *arguments, backend=backend))
        assert done.returncode == 0, done.stderr
        return done.stdout
    # Forked, it need not import TensorFlow once more.
    done = run_forked(script, *arguments)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return printed


def interrupted(
    script: str,
    *arguments: object,
    epoch: int,
    number: signal.Signals,
    forked: bool = True,
    backend: str = "tensorflow",
) -> str:
    """Runs a script that gets a signal while an epoch is under way; returns what it printed.

    Not forked, it is a process that has imported for itself what it needs.
    """
    if forked:
        done = run_forked(script, *arguments, first=partial(signal_in, epoch, number))
    else:
        command = (ROOT / "tests" / "signalled.py", epoch, int(number), script, *arguments)
        done = finish(start(*command, backend=backend))
    printed = done.stdout + done.stderr
    assert done.returncode == EXIT_STATUS[number], printed
    return printed


def refused(script: str, *arguments: object) -> str:
    """Runs a script that must complain; returns its one line."""
    done = run_forked(script, *arguments)
    complaint = done.stderr
    assert done.returncode == 2
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    return complaint


def run_forked(
    script: str, *arguments: object, first: Callable[[], object] | None = None
) -> subprocess.CompletedProcess:
    """Runs a script to its end, whatever that is; see `forkedscript.start` for `first`."""
    with tempfile.TemporaryDirectory() as folder:
        log, errors = Path(folder) / "log", Path(folder) / "errors"
        process = forkedscript.start(script, *arguments, log=log, errors=errors, first=first)
        status = forkedscript.finish(process)
        stdout, stderr = log.read_text(), errors.read_text()
    return subprocess.CompletedProcess([script, *arguments], status, stdout, stderr)
