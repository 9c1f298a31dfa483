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
    assert len(data.train_images) == len(data.val_images) == sum(COUNTS.values())
    assert (data.name, data.val_part) == ("pets", called)


def test_of_three_parts_val_is_validated_on_and_test_reported_on_at_the_end(pets):
    root = pets("train", "val")
    write(root / "test", {"ant": 1, "bee": 2, "cat": 1})
    data = read_image_folders(root, SIZE)
    assert (len(data.val_images), data.val_part) == (sum(COUNTS.values()), "")
    assert colours(data.test_images) == [0, 50, 51, 100]
    assert data.test_labels.tolist() == [0, 1, 1, 2]


def test_other_pictures_have_another_fingerprint(pets):
    root = pets()
    first = read_image_folders(root, SIZE).fingerprint
    assert read_image_folders(root, SIZE).fingerprint == first
    picture = root / "ant" / "00.png"
    kept = picture.read_bytes()
    shutil.copy(root / "ant" / "01.png", picture)
    assert read_image_folders(root, SIZE).fingerprint != first
    picture.write_bytes(kept)
    (root / "ant" / "09.png").rename(root / "bee" / "09.png")
    assert read_image_folders(root, SIZE).fingerprint != first


@pytest.mark.parametrize("parts", [(), ("train",)])
def test_of_classes_alone_a_fifth_of_each_is_held_out(pets, parts):
    root = pets(*parts)
    data = read_image_folders(root, SIZE)
    assert Counter(data.val_labels.tolist()) == {0: 2, 1: 4, 2: 1}
    assert Counter(data.train_labels.tolist()) == {0: 8, 1: 16, 2: 4}
    seen = sorted(colours(data.train_images) + colours(data.val_images))
    assert seen == sorted(
        50 * n + i for n, count in enumerate(COUNTS.values()) for i in range(count)
    )
    assert data.val_part == "held out"
    assert colours(read_image_folders(root, SIZE).val_images) == colours(data.val_images)


def test_of_a_small_class_one_image_is_held_out(tmp_path):
    data = read_image_folders(write(tmp_path / "pets", {"ant": 30, "bee": 3, "cat": 2}), SIZE)
    assert (np.bincount(data.train_labels) > 0).all()
    assert np.bincount(data.val_labels).tolist()[1:] == [1, 1]
    seen = sorted(colours(data.train_images) + colours(data.val_images))
    assert seen == [*range(30), 50, 51, 52, 100, 101]


def test_a_class_with_too_few_images_to_hold_one_out_is_refused(tmp_path):
    root = write(tmp_path / "pets", {"ant": 10, "bee": 1})
    with pytest.raises(UserError, match="the class bee has a single image that can be used"):
        read_image_folders(root, SIZE)


def test_a_class_called_train_is_refused(tmp_path):
    root = write(tmp_path / "vehicles", {"bus": 3, "train": 3})
    with pytest.raises(UserError, match="vehicles/train holds pictures itself: if it is a class"):
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
    assert set(data.val_labels.tolist()) == {0, 2}
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
        (data.val_images, data.val_labels, whole.val_images, whole.val_labels, COUNTS["ant"]),
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
