"""What every script does around its work: errors in one line, and the exit status."""

import os
import signal
import sys
from collections.abc import Callable

from pipeline.errors import BadImages, Interrupted, UserError, one_line


def run(main: Callable[[], None]) -> None:
    """Runs a script's `main` and exits: 0 done, 2 user error, 128 + its number after a signal."""
    _let_everything_be_printed()
    try:
        main()
    except BadImages as error:
        sys.exit(_complain(f"{error}; --skip-bad goes on without them"))
    except UserError as error:
        sys.exit(_complain(str(error)))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "pipeline", "config"):
            raise
        sys.exit(
            _complain(
                f"the package {package} is missing: run 'source .venv/bin/activate' first "
                "('make demo' sets .venv up)"
            )
        )
    except Interrupted as interruption:
        sys.exit(128 + interruption.signal_number)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{place}{error.strerror or error}"))


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


def _complain(message: str) -> int:
    sys.stdout.flush()  # the complaint comes last in a log of both
    print(f"error: {one_line(message)}", file=sys.stderr)
    return 2
