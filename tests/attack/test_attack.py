"""Damaged and hostile files, bombs, links and kills: whatever comes, nothing breaks.

`python -m pytest -m slow tests/attack` prints a table; ATTACK_TRIES says how many tries each kind
of random attack has, and ATTACK_KILLS how often each script is killed. The tries are in attacks.py.
They are made in processes of their own, so that one that ends its process, or never ends, is
counted and the next is made. The kills are those of storm.py.
"""

import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import storm
from attacks import ATTACKS

pytestmark = pytest.mark.slow

TRIES = int(os.environ.get("ATTACK_TRIES", "300"))
KILLS = int(os.environ.get("ATTACK_KILLS", "50"))
SECONDS = 20  # for a try
START_SECONDS = 300  # for a process, which has much to import, on a busy machine
WORKER = Path(__file__).with_name("attacks.py")
TESTS = WORKER.parents[1]


@dataclass
class Tally:
    """How the tries of one attack ended."""

    ends: Counter = field(default_factory=Counter)
    broke: dict[int, str] = field(default_factory=dict)
    next: int = 0

    def add(self, end: str) -> None:
        kind = end.partition(":")[0]
        self.ends[kind] += 1
        if kind == "broke":
            self.broke[self.next] = end
        self.next += 1


@pytest.fixture(scope="module")
def tallies(pytestconfig):
    tallies = {}
    yield tallies
    lines = [f"{'attack':36}{'tries':>8}{'refused':>9}{'fine':>8}{'broke':>7}"]
    for name, tally in tallies.items():
        ends = [tally.ends[kind] for kind in ("refused", "fine", "broke")]
        lines.append(f"{name:36}{sum(ends):>8,}{ends[0]:>9,}{ends[1]:>8,}{ends[2]:>7,}")
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *lines, sep="\n")


def strike(name: str, folder: Path, tally: Tally) -> bool:
    """Has a process make the tries from `tally.next` on; tells whether it came to their end."""
    command = [sys.executable, str(WORKER), name, str(folder), str(tally.next), str(TRIES)]
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    with (
        open(folder / "errors", "w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        lines: queue.Queue[str] = queue.Queue()

        def listen() -> None:
            for line in process.stdout:
                lines.put(line.strip())
            lines.put("")

        threading.Thread(target=listen, daemon=True).start()
        trying = False
        try:
            assert lines.get(timeout=START_SECONDS) == "ready", (folder / "errors").read_text()
            while line := lines.get(timeout=SECONDS):
                if trying:
                    tally.add(line)
                trying = not trying
        except queue.Empty:
            process.kill()
            tally.add(f"broke: it took longer than {SECONDS} s")
            return False
        if process.wait() and trying:
            tally.add(f"broke: it ended the process ({process.returncode})")
            return False
        assert process.returncode == 0, (folder / "errors").read_text()
        return True


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_breaks(name, tmp_path, tallies):
    tally = tallies[name.replace("_", " ")] = Tally()
    for start in range(20):  # a process that was ended is followed by another, but not for ever
        folder = tmp_path / str(start)
        folder.mkdir()
        if strike(name, folder, tally):
            break
    assert tally.ends.total() > 0
    assert tally.broke == {}


@pytest.mark.parametrize(
    ("script", "more"),
    [
        *((script, []) for script in storm.SCRIPTS),
        *((script, storm.OFTEN) for script in ("resnet_cifar10_decay", "train_images")),
    ],
    ids=lambda of: of if isinstance(of, str) else "amid epochs" * bool(of),
)
def test_nothing_is_lost(script, more, tmp_path, tallies):
    tally = tallies[f"kills of {script}.py{', amid epochs' if more else ''}"] = Tally()
    training = storm.SCRIPTS[script](tmp_path)
    try:
        struck = training.storm(KILLS, 2, *more, survived=lambda: tally.add("fine"))
    except AssertionError as error:
        tally.add(f"broke: {error}")
        raise
    print(struck.total(), "kills:", dict(struck.most_common()))
    assert struck.total() >= KILLS
