"""Running the scripts as a user does: in processes of their own, and interrupted."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import forkedscript

ROOT = Path(__file__).parents[1]
EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


def start(script: str, *arguments: object, backend: str = "tensorflow") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> subprocess.CompletedProcess:
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run(script: str, *arguments: object, backend: str = "tensorflow") -> str:
    """Runs a script to its end; returns what it printed."""
    if backend != "tensorflow":
        done = finish(start(script, *arguments, backend=backend))
        assert done.returncode == 0, done.stderr
        return done.stdout
    # Forked, it need not import TensorFlow once more.
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        status = forkedscript.finish(forkedscript.start(script, *arguments, log=log))
        printed = log.read_text()
    assert status == 0, printed
    return printed


def stop(
    script: str,
    *arguments: object,
    epoch: int,
    number: signal.Signals,
    backend: str = "tensorflow",
) -> None:
    """Runs a script and sends it a signal while an epoch is under way."""
    if backend != "tensorflow":
        interrupt(start(script, *arguments, backend=backend), epoch, number)
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        process = forkedscript.start(script, *arguments, log=log)
        deadline = time.monotonic() + 120
        while f"\nEpoch {epoch}/" not in log.read_text():
            assert process.is_alive(), log.read_text()
            assert time.monotonic() < deadline, "the process hangs"
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(process.pid, number)
        assert forkedscript.finish(process) == EXIT_STATUS[number], log.read_text()


def interrupt(process: subprocess.Popen, epoch: int, number: signal.Signals) -> str:
    """Sends a signal while an epoch is under way; returns what the process printed."""
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith(f"Epoch {epoch}/"):
            time.sleep(0.3)
            process.send_signal(number)
            break
    done = finish(process)
    assert done.returncode == EXIT_STATUS[number], done.stderr
    return "".join(printed) + done.stdout


def refused(script: str, *arguments: object) -> str:
    """Runs a script that must complain; returns its one line."""
    with tempfile.TemporaryDirectory() as folder:
        log, errors = Path(folder) / "log", Path(folder) / "errors"
        status = forkedscript.finish(forkedscript.start(script, *arguments, log=log, errors=errors))
        complaint = errors.read_text()
    assert status == 2
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    return complaint
