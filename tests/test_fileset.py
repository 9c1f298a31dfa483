import errno
import itertools
import multiprocessing
import os
import signal

import pytest

from pipeline.errors import UserError
from pipeline.files.fileset import finish_interrupted, published_together

pytestmark = pytest.mark.thorough

NAMES = ("train", "val", "mean")


def contents(folder):
    files = (path for path in folder.iterdir() if path.exists() and path.name[0] != ".")
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
    renames = [(".unfinished", ".complete")]
    renames += [(f".{name}.tmp", name) for name in NAMES]
    renames += [(".complete", ".files_1"), ("..current.tmp", ".current")]
    assert steps == [
        step for rename in renames for step in (("replace", *rename), ("fsync", tmp_path.name))
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
    assert sorted(os.listdir(tmp_path)) == [".current", ".files_1", ".lock", *sorted(NAMES)]


def test_existing_files_are_replaced_only_on_request(tmp_path):
    (tmp_path / "val").write_text("old")
    with pytest.raises(UserError, match="val exists already: --overwrite replaces it"):
        publish(tmp_path, "new")
    assert contents(tmp_path) == {"val": "old"}
    publish(tmp_path, "new", overwrite=True)
    assert contents(tmp_path) == dict.fromkeys(NAMES, "new")


def test_other_files_in_the_folder_are_let_alone(tmp_path):
    (tmp_path / "notes").write_text("mine")
    publish(tmp_path, "new")
    publish(tmp_path, "newer", overwrite=True)
    assert contents(tmp_path) == {"notes": "mine", **dict.fromkeys(NAMES, "newer")}


def dies_at(step, before=lambda: None):
    """Publishes in a process of its own that dies before a change of the folder; tells if it did.

    Between two of these system calls nothing changes.
    """

    def killed(folder):
        nonlocal step

        def counted(function):
            def call(*arguments, **keywords):
                nonlocal step
                if step == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                step -= 1
                return function(*arguments, **keywords)

            return call

        for name in ("unlink", "replace", "rmdir", "mkdir", "symlink", "link"):
            setattr(os, name, counted(getattr(os, name)))
        before()
        publish(folder, "new", overwrite=True)

    def run(folder):
        process = multiprocessing.get_context("fork").Process(target=killed, args=(folder,))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0

    return run


def nothing_is_there(folder):
    return {}


def an_earlier_set(folder):
    publish(folder, "old")
    return dict.fromkeys(NAMES, "old")


def plain_files(folder):
    """As earlier versions left them."""
    for name in NAMES:
        (folder / name).write_text("old")
    return dict.fromkeys(NAMES, "old")


def a_plain_file_among_links(folder):
    publish(folder, "old")
    (folder / "val").unlink()
    (folder / "val").write_text("old")
    return dict.fromkeys(NAMES, "old")


BEFORE = [nothing_is_there, an_earlier_set, plain_files, a_plain_file_among_links]


@pytest.mark.parametrize("before", BEFORE, ids=lambda before: before.__name__)
def test_a_kill_leaves_all_files_old_or_all_new_and_the_next_start_goes_through(tmp_path, before):
    new = dict.fromkeys(NAMES, "new")
    struck, left_new = True, 0
    for step in itertools.count():
        folder = tmp_path / str(step)
        folder.mkdir()
        old = before(folder)
        struck = dies_at(step)(folder)
        found = contents(folder)
        assert found in (old, new), step
        left_new += found == new
        if not struck:
            break
        finished = finish_interrupted(folder, NAMES)
        assert contents(folder) == (new if finished else found)
        publish(folder, "newer", overwrite=bool(contents(folder)))
        assert contents(folder) == dict.fromkeys(NAMES, "newer")
        assert sum(len(files) for _, _, files in os.walk(folder)) == 1 + len(NAMES) * 2
        assert not (folder / ".unfinished").exists()
    assert found == new
    assert step > 8
    assert left_new > 1


@pytest.mark.parametrize("before", BEFORE, ids=lambda before: before.__name__)
def test_without_links_a_kill_never_leaves_new_files_beside_old_ones(tmp_path, before, monkeypatch):
    def no_links(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as on FAT

    def without_links():
        os.symlink = os.link = no_links

    for step in itertools.count():
        folder = tmp_path / str(step)
        folder.mkdir()
        old = before(folder)
        struck = dies_at(step, without_links)(folder)
        found = contents(folder)
        assert len(set(found.values())) <= 1
        with monkeypatch.context() as patched:
            patched.setattr(os, "symlink", no_links)
            patched.setattr(os, "link", no_links)
            if finish_interrupted(folder, NAMES):
                assert contents(folder) == dict.fromkeys(NAMES, "new")
            else:
                assert contents(folder) in (old, dict.fromkeys(NAMES, "new"))
            publish(folder, "newer", overwrite=bool(contents(folder)))
        assert contents(folder) == dict.fromkeys(NAMES, "newer")
        if not struck:
            break
    assert step > 8


def test_a_link_in_the_place_of_unfinished_files_is_removed_and_not_followed(tmp_path):
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.mkdir()
    (precious / "results").touch()
    folder.mkdir()
    for name in (".unfinished", ".complete", ".files_1", ".current"):
        (folder / name).symlink_to(precious)
    publish(folder, "new")
    assert contents(folder) == dict.fromkeys(NAMES, "new")
    assert os.listdir(precious) == ["results"]
    publish(folder, "newer", overwrite=True)
    assert os.listdir(precious) == ["results"]


def test_two_processes_cannot_write_at_the_same_time(tmp_path):
    with published_together(tmp_path, NAMES) as staging:
        for name in NAMES:
            (staging / name).write_text("first")
        with pytest.raises(UserError, match="is in use by another process"):
            publish(tmp_path, "second")
    assert contents(tmp_path) == dict.fromkeys(NAMES, "first")
