import multiprocessing
import os
import signal

import pytest

from pipeline.errors import UserError
from pipeline.files.fileset import published_together

NAMES = ("train", "val", "mean")


def contents(folder):
    files = (path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.name: path.read_text() for path in files}


def publish(folder, text, names=NAMES, **settings):
    with published_together(folder, NAMES, **settings) as staging:
        for name in names:
            (staging / name).write_text(text)


def test_the_files_appear_when_all_are_written(tmp_path):
    folder = tmp_path / "made" / "on demand"
    with published_together(folder, NAMES) as staging:
        for name in NAMES:
            (staging / name).write_text("new")
            assert contents(folder) == {}
    assert contents(folder) == dict.fromkeys(NAMES, "new")
    assert not staging.exists()


def test_each_new_name_is_on_disk_before_the_next_step(tmp_path, steps):
    publish(tmp_path, "new")
    assert steps == [
        step for name in NAMES for step in (("replace", name, name), ("fsync", tmp_path.name))
    ]


def test_an_exception_leaves_the_old_files_and_nothing_else(tmp_path):
    def interrupted():
        with published_together(tmp_path, NAMES, overwrite=True) as staging:
            (staging / "train").write_text("new")
            raise KeyboardInterrupt

    publish(tmp_path, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == dict.fromkeys(NAMES, "old")
    assert sorted(os.listdir(tmp_path)) == [".lock", *sorted(NAMES)]


def test_existing_files_are_replaced_only_on_request(tmp_path):
    (tmp_path / "val").write_text("old")
    with pytest.raises(UserError, match="val exists already: replace it with --overwrite"):
        publish(tmp_path, "new")
    assert contents(tmp_path) == {"val": "old"}
    publish(tmp_path, "new", overwrite=True)
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


def test_other_files_in_the_folder_are_let_alone(tmp_path):
    (tmp_path / "notes").write_text("mine")
    publish(tmp_path, "new")
    publish(tmp_path, "newer", overwrite=True)
    assert contents(tmp_path) == {"notes": "mine", **dict.fromkeys(NAMES, "newer")}


@pytest.mark.parametrize("step", range(9))
def test_a_kill_never_leaves_new_files_beside_old_ones(tmp_path, step):
    publish(tmp_path, "old")

    def killed_at(step):
        """Counts the system calls that change the folder, and dies before one of them."""

        def counted(function):
            def call(*arguments, **keywords):
                nonlocal step
                if step == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                step -= 1
                return function(*arguments, **keywords)

            return call

        os.unlink, os.replace, os.rmdir = map(counted, (os.unlink, os.replace, os.rmdir))
        publish(tmp_path, "new", overwrite=True)

    process = multiprocessing.get_context("fork").Process(target=killed_at, args=(step,))
    process.start()
    process.join()

    found = contents(tmp_path)
    assert len(set(found.values())) <= 1
    if process.exitcode == 0:
        assert step > 6
        assert found == dict.fromkeys(NAMES, "new")
    else:
        assert process.exitcode == -signal.SIGKILL
        publish(tmp_path, "newer", overwrite=True)
        assert contents(tmp_path) == dict.fromkeys(NAMES, "newer")


def test_two_processes_cannot_write_at_the_same_time(tmp_path):
    with published_together(tmp_path, NAMES) as staging:
        for name in NAMES:
            (staging / name).write_text("first")
        with pytest.raises(UserError, match="is in use by another process"):
            publish(tmp_path, "second")
    assert contents(tmp_path) == dict.fromkeys(NAMES, "first")
