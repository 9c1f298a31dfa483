"""How far a long piece of work has come, on one line."""

import sys
import time

BAR_WIDTH = 30


class Progress:
    """Prints a bar and images/s, over and over on a terminal, once at the end anywhere else.

    Args:
        name: of the work.
        total: number of images.
    """

    def __init__(self, name: str, total: int):
        self._name, self._total = name, total
        self._done = 0
        self._start = time.perf_counter()

    def advance(self, count: int) -> None:
        """Notes that `count` more images are done."""
        self._done += count
        finished = self._done >= self._total
        if not finished and not sys.stdout.isatty():
            return
        rate = self._done / (time.perf_counter() - self._start)
        bar = "=" * (BAR_WIDTH * self._done // self._total)
        line = f"{self._name:<8} [{bar:<{BAR_WIDTH}}] {self._done:,}/{self._total:,}"
        end = "\n" if finished else "\r"
        print(f"{line}  {rate:,.0f} images/s", end=end, flush=True)
