import os

import pytest

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
