"""The exceptions that end a script in an orderly way."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something the user can mend; the message is one line: what, where, what to do."""


class BadImages(UserError):
    """Images cannot be used, and the scripts that read them have --skip-bad to go on without."""


class NetworkError(UserError, ValueError):
    """No network can be built of these stages, filters and sizes."""


class Stopped(Exception):
    """Training has ended before its last epoch.

    Attributes:
        advanced: whether there is a checkpoint that this run has written.
        checkpoint: the last one, or else what the run went on from; None if there is none.
        batch: how many batches it is after the last completed epoch.
    """

    advanced: bool = False
    checkpoint: Path | None = None
    batch: int = 0


class Diverged(Stopped):
    """A loss or a weight is not a finite number; the message says which, and when."""


class Interrupted(Stopped):
    """Training was asked to stop by a signal and has stopped between two batches."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


def require_packages(what: str, packages: Iterable[str], command: str) -> None:
    """Makes sure that packages are installed.

    Args:
        what: needs them.
        packages: names of their modules.
        command: installs them.

    Raises:
        UserError: one is missing.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"{what} needs {' and '.join(missing)}: {command}")


def one_line(message: str) -> str:
    """Returns a message in one line, with escapes for what a terminal would obey or not show.

    A file's name, or what is written in a file, may hold any character.
    """
    shown = " ".join(message.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
