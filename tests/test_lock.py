import signal
import subprocess
import sys

import pytest
import specialfiles

from pipeline.errors import UserError
from pipeline.files.lock import lock, lock_before_reading, real


def test_a_folder_is_made_and_locked_until_the_file_is_closed(tmp_path):
    folder = tmp_path / "made" / "on demand"
    with lock(folder), pytest.raises(UserError, match=f"{folder} is in use by another process"):
        lock(folder)
    lock(folder).close()


def test_a_folder_that_is_there_is_locked_before_it_is_read_unless_it_is_already(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    locks = {}
    lock_before_reading(tmp_path, locks)
    lock_before_reading(tmp_path / "link", locks)
    assert list(locks) == [tmp_path]
    with pytest.raises(UserError, match=f"{tmp_path} is in use by another process"):
        lock_before_reading(tmp_path, {})

    lock_before_reading(tmp_path / "missing", locks)
    assert list(locks) == [tmp_path]
    assert not (tmp_path / "missing").exists()


HOLD = """
import sys
from pathlib import Path
from pipeline.files.lock import lock, real
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


def test_a_link_in_the_locks_place_is_neither_followed_nor_emptied(tmp_path):
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.write_text("results")
    folder.mkdir()
    (folder / ".lock").symlink_to(precious)
    with pytest.raises(OSError, match=r"it is a symbolic link: remove it: .*\.lock"):
        lock(folder)
    (folder / ".lock").unlink()
    (folder / ".lock").hardlink_to(precious)
    lock(folder).close()
    assert precious.read_text() == "results"


@pytest.mark.parametrize("put", specialfiles.SPECIAL, ids=lambda put: put.__name__)
def test_what_is_no_file_is_no_lock_and_nobody_waits_for_it(tmp_path, put):
    put(tmp_path / ".lock")
    with specialfiles.at_once(), pytest.raises(OSError, match=r"\.lock"):
        lock(tmp_path)


def test_a_file_or_a_link_to_itself_is_no_folder(tmp_path):
    specialfiles.link_to_itself(tmp_path / "loop")
    (tmp_path / "file").touch()
    for name in ("loop", "file"):
        with pytest.raises(UserError, match=f"{tmp_path / name} is not a folder"):
            lock(tmp_path / name)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        lock(tmp_path / "loop" / "below")


def test_a_loop_of_links_has_a_name_and_cannot_be_locked(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert real(tmp_path / "loop").name == "loop"
    with pytest.raises((UserError, OSError)):
        lock(real(tmp_path / "loop"))
