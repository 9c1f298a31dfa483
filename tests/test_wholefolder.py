import os

import pytest

from pipeline.errors import UserError
from pipeline.files.wholefolder import whole_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(folder, text):
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_text(text)
    (folder / "labels").write_text(text)


def write_twice(folder):
    write(folder, "1")
    write(folder, "1")


def test_a_folder_appears_with_all_that_was_written_to_it_flushed_to_disk(tmp_path, steps):
    with whole_folder(tmp_path / "new") as folder:
        write(folder, "1")
        assert not (tmp_path / "new").exists()
    assert names(tmp_path) == ["new"]
    assert names(tmp_path / "new") == ["labels", "model"]
    assert (tmp_path / "new" / "model" / "weights").read_text() == "1"
    *flushed, renamed, at_last = steps
    written = {("fsync", name) for name in ("labels", "model", "weights", ".new.unfinished")}
    assert set(flushed) == written
    assert (renamed, at_last) == (
        ("replace", ".new.unfinished", "new"),
        ("fsync", tmp_path.name),
    )


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    for old in ([], ["old"]):
        for name in old:
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / name).touch()
        with pytest.raises(FileExistsError), whole_folder(tmp_path / "new") as folder:
            write_twice(folder)
        assert names(tmp_path) == ["new"] * len(old)
    assert names(tmp_path / "new") == ["old"]


def test_an_old_folder_is_replaced(tmp_path):
    for text in ("1", "2"):
        with whole_folder(tmp_path / "new") as folder:
            write(folder, text)
    assert names(tmp_path) == ["new"]
    assert (tmp_path / "new" / "labels").read_text() == "2"


@pytest.mark.parametrize("name", [".new.unfinished", ".new.replaced"])
def test_a_link_beside_it_is_neither_followed_nor_removed(name, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "results").touch()
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / name).symlink_to(precious)
    with (
        pytest.raises(OSError, match=rf"it is a symbolic link: remove it: .*{name}"),
        whole_folder(tmp_path / "parent" / "new"),
    ):
        pass
    assert names(precious) == ["results"]
    assert names(tmp_path / "parent") == [name]


@pytest.mark.parametrize("kill_at", [1, 2])
def test_a_kill_at_either_rename_loses_neither_folder(kill_at, tmp_path, monkeypatch):
    path = tmp_path / "new"
    with whole_folder(path) as folder:
        write(folder, "old")

    class Killed(BaseException):
        """In place of SIGKILL, after which no `finally` comes: those of this process do."""

    renames = []
    replace = os.replace

    def until_killed(source, target):
        renames.append(target)
        if len(renames) == kill_at:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", until_killed)
    with pytest.raises(Killed), whole_folder(path) as folder:
        write(folder, "new")
    monkeypatch.undo()
    kept = path if path.exists() else tmp_path / ".new.replaced"
    assert (kept / "labels").read_text() == "old"

    with pytest.raises(FileExistsError), whole_folder(path) as folder:
        write_twice(folder)
    assert (path / "labels").read_text() == "old"
    assert names(tmp_path) == ["new"]


def test_a_disk_error_at_the_last_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "new"
    with whole_folder(path) as folder:
        write(folder, "old")
    replace = os.replace

    def fail(source, target):
        if source.name == ".new.unfinished":
            raise OSError("no room")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no room"), whole_folder(path) as folder:
        write(folder, "new")
    assert names(tmp_path) == ["new"]
    assert (path / "labels").read_text() == "old"


def test_what_a_killed_process_left_is_not_published(tmp_path):
    left = tmp_path / ".new.unfinished"
    (left / "part").mkdir(parents=True)
    (left / "part" / "half").touch()
    (left / "torn").touch()
    with whole_folder(tmp_path / "new") as folder:
        write(folder, "1")
    assert names(tmp_path / "new") == ["labels", "model"]


def test_no_other_process_comes_in_between_until_the_folder_has_its_name(tmp_path, monkeypatch):
    replace, renamed = os.replace, []

    def contended(source, target):
        with pytest.raises(UserError, match="in use by another"), whole_folder(tmp_path / "new"):
            pass
        renamed.append(source.name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", contended)
    for text in ("1", "2"):
        with whole_folder(tmp_path / "new") as folder:
            write(folder, text)
        assert (tmp_path / "new" / "labels").read_text() == text
    assert renamed == [".new.unfinished", "new", ".new.unfinished"]
    assert names(tmp_path) == ["new"]
    assert names(tmp_path / "new") == ["labels", "model"]


def test_two_processes_do_not_write_the_same_folder(tmp_path):
    with whole_folder(tmp_path / "new") as folder:
        write(folder, "1")
        with (
            pytest.raises(UserError, match="in use by another process"),
            whole_folder(tmp_path / "new"),
        ):
            pass
    assert names(tmp_path / "new") == ["labels", "model"]
