import signal
import subprocess
import sys

import pytest

from pipeline.errors import UserError
from pipeline.files.lock import lock


def test_a_folder_is_made_and_locked_until_the_file_is_closed(tmp_path):
    folder = tmp_path / "made" / "on demand"
    with lock(folder), pytest.raises(UserError, match=f"{folder} is in use by another process"):
        lock(folder)
    lock(folder).close()


HOLD = """
import sys
from pathlib import Path
from pipeline.files.lock import lock
held = lock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_does_not_stand_in_the_way(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="is in use by another process"):
            lock(tmp_path)
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / ".lock").exists()
    lock(tmp_path).close()
