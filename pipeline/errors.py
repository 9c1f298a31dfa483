"""The exceptions that end a script in an orderly way."""


class UserError(Exception):
    """Something the user can mend; the message is one line: what, where, what to do."""


class NetworkError(UserError, ValueError):
    """No network can be built of these stages, filters and sizes."""


class Diverged(Exception):
    """A loss or a weight is not a finite number; the message says which, and when."""


class Interrupted(Exception):
    """Training was asked to stop by a signal and has stopped between two batches."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number
