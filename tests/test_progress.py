import pty
import re
import sys

from pipeline.utils.progress import Progress


def test_away_from_a_terminal_there_is_one_line_at_the_end(capsys):
    progress = Progress("train", 3000)
    progress.advance(1000)
    assert capsys.readouterr().out == ""
    progress.advance(2000)
    line = capsys.readouterr().out
    assert re.fullmatch(r"train +\[=+\] 3,000/3,000  [\d,]+ images/s\n", line)


def test_on_a_terminal_the_line_is_drawn_over_and_over(monkeypatch):
    master, slave = pty.openpty()
    with open(slave, "w") as terminal, open(master, newline="\n") as screen:
        monkeypatch.setattr(sys, "stdout", terminal)
        progress = Progress("val", 100)
        for _ in range(4):
            progress.advance(25)
        # A terminal hands on what was written piece by piece: a line is whole with its end.
        first, *_, last = screen.readline().removesuffix("\r\n").split("\r")
    assert re.fullmatch(r"val +\[=======    +\] 25/100  [\d,]+ images/s", first)
    assert re.fullmatch(r"val +\[={30}\] 100/100  [\d,]+ images/s", last)
