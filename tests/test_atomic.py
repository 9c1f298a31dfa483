import os

import pytest
import specialfiles

from pipeline.files.atomic import write_atomically


def test_content_is_on_disk_before_its_name_and_the_name_before_the_next_step(tmp_path, steps):
    """A power cut loses what was not flushed."""
    write_atomically(tmp_path / "a.json", "{}")
    assert steps == [
        ("fsync", ".a.json.tmp"),
        ("replace", ".a.json.tmp", "a.json"),
        ("fsync", tmp_path.name),
    ]


def test_the_old_file_is_whole_until_the_new_one_takes_its_name(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")
    seen = []
    rename = os.replace

    def replace(source, target):
        seen.append((path.read_text(), source.read_text()))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_atomically(path, "new")
    assert seen == [("old", "new")]
    assert path.read_text() == "new"


def test_a_full_disk_leaves_the_old_file_and_nothing_else_and_the_error_names_it(
    tmp_path, small_disk
):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(OSError, match=f"File too large: '{path}'"), small_disk(10):
        write_atomically(path, "x" * 11)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_the_temporary_files_place_is_not_followed(tmp_path, link):
    """In a folder that is shared, somebody else may have put it there."""
    (tmp_path / "precious").write_text("results")
    link(tmp_path / "precious", tmp_path / ".a.json.tmp")
    write_atomically(tmp_path / "a.json", "new")
    assert (tmp_path / "precious").read_text() == "results"
    assert (tmp_path / "a.json").read_text() == "new"
    assert not (tmp_path / "a.json").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a.json", "precious"]


def test_nobody_waits_for_a_pipe_in_the_temporary_files_place(tmp_path):
    specialfiles.pipe(tmp_path / ".a.json.tmp")
    with specialfiles.at_once():
        write_atomically(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"


@pytest.mark.parametrize("path", [".", "/", ""])
def test_what_cannot_be_a_file_is_named_in_an_error_of_the_system(path):
    with pytest.raises(IsADirectoryError, match=r"Is a directory: '[./]'"):
        write_atomically(path, "new")
