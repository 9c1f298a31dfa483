"""Stopping between two batches when the user or the system asks for it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import keras

from pipeline.errors import Interrupted

# Seconds in which signals are one request: `timeout` sends its to a process and to its group, and
# what a run is started by may pass on a Ctrl+C that the terminal has sent to both.
ONE_REQUEST = 1.0
END = b"\0"  # no signal's number


class StopOnSignal(keras.callbacks.Callback):
    """Ends `fit` after the batch in which SIGINT (Ctrl+C), SIGTERM or SIGHUP arrives.

    Where it arrives in an epoch's last batch or in the validation, whose half is worth nothing, it
    ends after the epoch.

    Used as a context manager around `fit` and as one of its callbacks. A second signal, more
    than `ONE_REQUEST` later, ends the process at once, with the status 128 + its number. A run that
    ignores SIGHUP, as under nohup, goes on ignoring it. Outside the main thread, which alone Python
    tells of signals, it heeds none; `agreed` is asked all the same.

    Python's own signal handlers wait until a batch, or the compilation before it, has returned. A
    thread that reads the interpreter's wake-up pipe answers, and counts, immediately.

    Args:
        save: called with the number of the epoch's batches so far, before training ends amid an
            epoch.
        agreed: for one of several processes, which have to stop after the same batch: called after
            each batch with the number of batches so far, it tells whether all stop now. It watches
            for SIGTERM itself; other signals are passed on to it as SIGTERM.

    Raises:
        Interrupted: from `fit`, once the batch or the epoch has ended.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(
        self,
        save: Callable[[int], None] = lambda batch: None,
        agreed: Callable[[int], bool] | None = None,
    ):
        super().__init__()
        self.received: int | None = None
        self._save, self._agreed = save, agreed
        self._batches = 0
        self._stopping = False
        self._under_way = "batch"
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is not threading.main_thread():
            return self  # Python hands signals to the main thread alone
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
        if self._thread is None:
            return
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.write(self._pipe[1], END)  # a process that was forked meanwhile keeps the pipe open
        os.close(self._pipe[1])
        self._thread.join()
        os.close(self._pipe[0])

    def _receive(self, number: int, frame: object) -> None:
        # Comes before the next line of Python, so that no further batch begins.
        self.received = number
        if self._agreed:
            os.kill(os.getpid(), signal.SIGTERM)

    def _listen(self) -> None:
        asked = None
        while (received := os.read(self._pipe[0], 1)) != END:
            number = received[0]
            if number not in self.SIGNALS:
                continue
            if asked is not None:
                # A shell may send SIGHUP besides the system.
                if number != signal.SIGHUP and time.monotonic() - asked > ONE_REQUEST:
                    os._exit(128 + number)
                continue
            asked = time.monotonic()
            with suppress(OSError):  # the terminal may be gone
                how = f"stopping after this {self._under_way}; a second signal stops at once"
                print(f"\n{how}", file=sys.stderr)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops training, unless the epoch has no batch left."""
        if not self._asked():
            return
        if batch + 1 < self.params["steps"]:
            self._save(batch + 1)
            self._stop()

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Lets the validation come to its end."""
        self._under_way = "validation"

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Agrees with other processes, if there are any."""
        self._asked()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Stops after the epoch."""
        self._under_way = "batch"
        if self._stopping or (self.received is not None and not self._agreed):
            self._stop()

    def _asked(self) -> bool:
        self._batches += 1
        asked = self._agreed(self._batches) if self._agreed else self.received is not None
        self._stopping |= asked
        return asked

    def _stop(self) -> NoReturn:
        raise Interrupted(self.received or signal.SIGTERM)
