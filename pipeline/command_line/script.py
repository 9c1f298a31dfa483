"""What every script does around its work: errors in one line, and the exit status."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from pipeline.errors import BadImages, Interrupted, UserError, one_line
from pipeline.streams import NOBODY_READS, silence


def run(main: Callable[[], None]) -> None:
    """Runs a script's `main` and exits: 0 done, 2 user error, 128 + its number after a signal."""
    _let_everything_be_printed()
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        if (status := status_of(error)) is None:
            raise
        sys.exit(status)
    finally:
        _forget_a_lost_reader()


def status_of(error: BaseException) -> int | None:
    """Says what is wrong, if the user can mend it; returns the exit status, None for a defect."""
    if isinstance(error, BadImages):
        return _complain(f"{error}; --skip-bad goes on without them")
    if isinstance(error, UserError):
        return _complain(str(error))
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in ("", "pipeline", "config"):
            return None
        return _complain(
            f"the package {package} is missing: run 'source .venv/bin/activate' first "
            "('make demo' sets .venv up)"
        )
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, OSError) and (error.filename is not None or error.errno is not None):
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}")
    return None


def _let_everything_be_printed() -> None:
    """Makes printing safe where a stream is closed, or cannot show a character."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by the shell, as with >&-
            os.open(os.devnull, os.O_RDWR)  # takes the lowest descriptor that is free: this one
            setattr(sys, name, open(descriptor, "w" if descriptor else "r"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's or a notebook's may be of another kind
            stream.reconfigure(errors="backslashreplace")


def _forget_a_lost_reader() -> None:
    """Lets Python end with the script's status, though it cannot print what is left any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if error.errno in NOBODY_READS:  # of anything else Python complains itself
                silence(stream)
        except ValueError:  # it is closed
            continue


def _complain(message: str) -> int:
    with suppress(OSError):  # whoever reads it may be gone
        sys.stdout.flush()  # the complaint comes last in a log of both
    with suppress(OSError):
        print(f"error: {one_line(message)}", file=sys.stderr)
    return 2
