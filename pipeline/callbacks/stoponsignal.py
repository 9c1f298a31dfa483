"""Stopping between two batches when the user or the system asks for it."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import keras

from pipeline.errors import Interrupted


class StopOnSignal(keras.callbacks.Callback):
    """Ends `fit` after the batch in which SIGINT (Ctrl+C), SIGTERM or SIGHUP arrives.

    Used as a context manager around `fit` and as one of its callbacks. A second signal ends the
    process at once, with the status 128 + its number. A run that ignores SIGHUP, as under
    nohup, goes on ignoring it.

    Python's own signal handlers wait until a batch, or the compilation before it, has returned. A
    thread that reads the interpreter's wake-up pipe answers, and counts, immediately.

    Args:
        agreed: for one of several processes that have to stop after the same batch: tells after a
            batch, given how many there have been, whether this is the one. It knows by itself of
            SIGTERM, which it gets when another signal comes.

    Raises:
        Interrupted: from `fit`, once the batch has ended.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, agreed: Callable[[int], bool] | None = None):
        super().__init__()
        self.received: int | None = None
        self._agreed = agreed
        self._batches = 0

    def __enter__(self) -> "StopOnSignal":
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, end == self._pipe[0])
        self._handlers = {
            number: signal.signal(number, self._receive)
            for number in self.SIGNALS
            # Started with nohup, a run is to outlive its terminal.
            if (number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN)
            and not (number == signal.SIGTERM and self._agreed)
        }
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._pipe[1])
        self._thread.join()
        os.close(self._pipe[0])

    def _receive(self, number: int, frame: object) -> None:
        # Comes before the next line of Python, so that no further batch begins.
        self.received = number
        if self._agreed:
            os.kill(os.getpid(), signal.SIGTERM)

    def _listen(self) -> None:
        asked = False
        while received := os.read(self._pipe[0], 1):
            number = received[0]
            if number not in self.SIGNALS:
                continue
            if asked:
                if number == signal.SIGHUP:
                    continue  # a shell may send it besides the system
                os._exit(128 + number)
            asked = True
            with suppress(OSError):  # the terminal may be gone
                print("\nstopping after this batch; once more stops at once", file=sys.stderr)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops training."""
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops validation; its epoch counts as not completed."""
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        self._batches += 1
        if self._agreed(self._batches) if self._agreed else self.received is not None:
            raise Interrupted(self.received or signal.SIGTERM)
