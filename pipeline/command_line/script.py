"""What every script does around its work: errors in one line, and the exit status."""

import signal
import sys
from collections.abc import Callable

from pipeline.errors import Interrupted, UserError, one_line


def run(main: Callable[[], None]) -> None:
    """Runs a script's `main` and exits: 0 done, 2 user error, 130 Ctrl+C, 143 SIGTERM."""
    try:
        main()
    except UserError as error:
        sys.exit(_complain(str(error)))
    except Interrupted as interruption:
        sys.exit(128 + interruption.signal_number)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{place}{error.strerror or error}"))


def _complain(message: str) -> int:
    sys.stdout.flush()  # the complaint comes last in a log of both
    print(f"error: {one_line(message)}", file=sys.stderr)
    return 2
