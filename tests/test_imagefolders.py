import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import BadImages, UserError
from pipeline.io import imagefiles
from pipeline.io.imagefolders import holds_image_folders, read_image_folders

COUNTS = {"ant": 10, "bee": 20, "cat": 5}
SIZE = 8


def write(folder: Path, counts: dict[str, int]) -> Path:
    """Writes pictures of one colour, each another one."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture = np.full((SIZE, SIZE, 3), 50 * number + index, dtype=np.uint8)
            cv2.imwrite(str(folder / name / f"{index:02}.png"), picture)
    return folder


@pytest.fixture
def pets(tmp_path):
    """Writes the parts of a data set: `pets("train", "val")`, or without parts."""

    def pets(*parts):
        root = tmp_path / "pets"
        for part in parts or ("",):
            write(root / part, COUNTS)
        return root

    return pets


def colours(images):
    return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(("part", "called"), [("test", "test set"), ("val", "")])
def test_two_parts_are_trained_on_and_evaluated_on(pets, part, called):
    data = read_image_folders(pets("train", part), SIZE)
    assert data.label_names == tuple(COUNTS)
    assert len(data.train_images) == len(data.test_images) == sum(COUNTS.values())
    assert (data.name, data.test_part) == ("pets", called)


def test_a_validation_set_beside_a_test_set_is_left_alone(pets):
    root = pets("train", "test")
    write(root / "val", {"ant": 1, "bee": 1, "cat": 1})
    assert len(read_image_folders(root, SIZE).test_images) == sum(COUNTS.values())


@pytest.mark.parametrize("parts", [(), ("train",)])
def test_of_classes_alone_a_fifth_of_each_is_held_out(pets, parts):
    root = pets(*parts)
    data = read_image_folders(root, SIZE)
    assert Counter(data.test_labels.tolist()) == {0: 2, 1: 4, 2: 1}
    assert Counter(data.train_labels.tolist()) == {0: 8, 1: 16, 2: 4}
    seen = sorted(colours(data.train_images) + colours(data.test_images))
    assert seen == sorted(
        50 * n + i for n, count in enumerate(COUNTS.values()) for i in range(count)
    )
    assert data.test_part == "held out"
    assert colours(read_image_folders(root, SIZE).test_images) == colours(data.test_images)


def test_a_class_with_too_few_images_to_hold_one_out_is_refused(tmp_path):
    root = write(tmp_path / "pets", {"ant": 10, "bee": 1})
    with pytest.raises(UserError, match="2 of 11 training images cannot be held out"):
        read_image_folders(root, SIZE)


def test_a_class_that_is_missing_in_training_is_refused(pets):
    root = pets("train", "val")
    shutil.rmtree(root / "train" / "bee")
    with pytest.raises(UserError, match="val has classes that train lacks: bee"):
        read_image_folders(root, SIZE)
    (root / "train" / "bee").mkdir()
    with pytest.raises(UserError, match=r"train has no pictures in bee; pictures are .*\.png"):
        read_image_folders(root, SIZE)


def test_a_class_that_is_missing_in_evaluation_is_told(pets, capsys):
    root = pets("train", "val")
    shutil.rmtree(root / "val" / "bee")
    data = read_image_folders(root, SIZE)
    assert set(data.test_labels.tolist()) == {0, 2}
    assert capsys.readouterr().err == f"warning: {root}/val has no images of bee\n"


def test_pictures_that_cannot_be_used_are_named_together_and_left_out_if_asked_for(pets, capsys):
    root = pets("train", "val")
    whole = read_image_folders(root, SIZE)
    (root / "train" / "ant" / "05.png").write_text("no picture")
    cv2.imwrite(str(root / "train" / "cat" / "large.png"), np.zeros((9, 9, 3), np.uint8))
    (root / "val" / "bee" / "00.png").write_bytes(b"")
    capsys.readouterr()
    with pytest.raises(BadImages, match=r"3 of 71 pictures .*, 00\.png, 05\.png, large\.png: mend"):
        read_image_folders(root, SIZE)
    assert capsys.readouterr().out.splitlines() == [
        f"bad: {root}/train/ant/05.png is truncated, damaged or not an image",
        f"bad: {root}/train/cat/large.png has 9x9 pixels instead of 8x8",
        f"bad: {root}/val/bee/00.png is empty",
    ]
    data = read_image_folders(root, SIZE, skip_bad=True)
    assert "3 of 71 pictures cannot be used and are left out" in capsys.readouterr().out
    for images, labels, expected, expected_labels, missing in (
        (data.train_images, data.train_labels, whole.train_images, whole.train_labels, 5),
        (data.test_images, data.test_labels, whole.test_images, whole.test_labels, COUNTS["ant"]),
    ):
        np.testing.assert_array_equal(images, np.delete(expected, missing, axis=0))
        np.testing.assert_array_equal(labels, np.delete(expected_labels, missing))


def test_a_part_of_which_nothing_can_be_used_is_refused(pets):
    root = pets("train", "test")
    for picture in (root / "test").rglob("*.png"):
        picture.write_bytes(b"")
    with pytest.raises(UserError, match="/test has no pictures that can be used"):
        read_image_folders(root, SIZE, skip_bad=True)


def test_a_class_of_which_nothing_can_be_used_is_refused(pets):
    root = pets()
    for path in (root / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="has no pictures of cat to train on"):
        read_image_folders(root, SIZE, skip_bad=True)


def test_what_looks_like_a_data_set(pets, tmp_path):
    assert holds_image_folders(pets())
    (tmp_path / "pets" / "notes").mkdir()
    assert not holds_image_folders(tmp_path / "pets")
    assert not holds_image_folders(tmp_path)  # the pictures lie two folders below
    (tmp_path / "train").mkdir()
    assert holds_image_folders(tmp_path)


def test_reading_shows_how_far_it_is_on_a_terminal(pets, monkeypatch, capsys):
    root = pets("train", "val")
    read_image_folders(root, SIZE)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(imagefiles.sys.stdout, "isatty", lambda: True, raising=False)
    read_image_folders(root, SIZE)
    shown = capsys.readouterr().out
    assert "train: 100%" in shown
    assert "val: 100%" in shown
    assert "35/35" in shown


def test_nothing_is_shown_of_a_part_that_is_not_there(pets, monkeypatch, capsys):
    monkeypatch.setattr(imagefiles.sys.stdout, "isatty", lambda: True, raising=False)
    read_image_folders(pets(), SIZE)
    assert capsys.readouterr().out.count("images/s]\n") == 1
