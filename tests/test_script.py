"""Whatever a script is started with, it ends in order."""

import signal
import subprocess
import sys

import pytest
from signalled import in_terminal

SAY = """
import sys
from pipeline.command_line import script
from pipeline.errors import UserError

def main():
    print("to stdout:", "\\u2192", *sys.argv[1:], flush=True)
    if sys.stdin.read():
        raise UserError("complaint about " + sys.argv[1])

script.run(main)
"""


def shell(redirection, argument=b"x", stdin=b"x", **environment):
    command = [b"sh", b"-c", b'"$0" -c "$1" "$2" ' + redirection, sys.executable, SAY, argument]
    return subprocess.run(command, input=stdin, capture_output=True, env=environment or None)


@pytest.mark.parametrize("redirection", [b">&-", b"2>&-", b">&- 2>&-", b"<&- >&- 2>&-"])
def test_closed_streams_change_nothing_but_what_is_seen(redirection):
    done = shell(redirection)
    if b"<&-" in redirection:
        assert done.returncode == 0
    else:
        assert done.returncode == 2
    assert (b"to stdout" in done.stdout) == (b" >&-" not in b" " + redirection.replace(b"2>", b""))
    if b"2>&-" not in redirection:
        assert done.stderr == b"error: complaint about x\n"


def test_what_is_no_text_is_shown_as_escapes():
    done = shell(b"", argument=b"a\xffb")
    assert done.returncode == 2
    assert done.stdout.endswith(b"a\\udcffb\n")
    assert done.stderr == b"error: complaint about a\\udcffb\n"


def test_a_locale_without_unicode_will_do():
    done = shell(b"", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 2
    assert done.stdout == b"to stdout: \\u2192 x\n"


OUTLIVES_ITS_TERMINAL = """
import signal, sys
from pipeline.command_line import script
from pipeline.errors import Interrupted

def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    print("started", flush=True)
    signal.sigwait({signal.SIGHUP})
    for stream in sys.argv[1:]:
        print("what nobody reads", end="", file=getattr(sys, stream))
    raise Interrupted(signal.SIGHUP)

script.run(main)
"""


@pytest.mark.parametrize("streams", [["stdout"], ["stderr"], ["stdout", "stderr"]], ids=str)
def test_what_a_lost_terminal_can_no_longer_show_does_not_change_the_status(streams):
    command = [sys.executable, "-c", OUTLIVES_ITS_TERMINAL, *streams]
    with in_terminal(command) as (process, ours):
        with open(ours, "rb", buffering=0) as terminal:
            assert terminal.readline() == b"started\r\n"
        assert process.wait(timeout=60) == 128 + signal.SIGHUP


LOSES_ITS_READER = """
import sys
from pipeline.command_line import script
from pipeline.errors import UserError

def main():
    sys.stdin.readline()
    print("what nobody reads", end="")
    raise UserError("boom")

script.run(main)
"""


def test_a_complaint_is_heard_though_nobody_reads_the_output_any_more():
    command = [sys.executable, "-c", LOSES_ITS_READER]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **streams, env={}) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b"error: boom\n"
    assert process.returncode == 2
