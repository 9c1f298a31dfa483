import itertools
import json
import math
import multiprocessing
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import specialfiles

from pipeline.errors import BadImages, UserError
from pipeline.files.seal import sealed, unsealed
from pipeline.io import inspection
from pipeline.io.miniatures import write_photographs
from pipeline.io.photographfolder import read_photograph_folder

SIZE = 64


@pytest.fixture
def folder(tmp_path):
    """20 photographs of each of two classes."""
    write_photographs(tmp_path / "photographs", 20)
    return tmp_path / "photographs"


def read(folder, **settings):
    return read_photograph_folder(str(folder), SIZE, **settings)


def paths(images):
    return [photograph.path for photograph in images.files]


def contents(images):
    return {Path(path).read_bytes() for path in paths(images)}


def divided(folder, count):
    """Moves the last photographs of each class to `val`, the others to `train`."""
    for place in list(folder.iterdir()):
        files = sorted(place.iterdir())
        for number, file in enumerate(files):
            split = "val" if number >= len(files) - count else "train"
            (folder / split / place.name).mkdir(parents=True, exist_ok=True)
            file.rename(folder / split / place.name / file.name)
        place.rmdir()
    return folder


# what is read


def test_classes_are_the_folders_and_a_fifth_of_each_is_held_out(folder, capsys):
    data = read(folder)
    assert data.label_names == ("flower", "temple")
    for images, labels, count in [
        (data.train_images, data.train_labels, 16),
        (data.val_images, data.val_labels, 4),
    ]:
        assert images.shape == (2 * count, SIZE, SIZE, 3)
        names = [os.path.basename(os.path.dirname(path)) for path in paths(images)]
        assert names == [data.label_names[label] for label in labels]
        assert np.bincount(labels).tolist() == [count, count]
    files = {str(path) for path in folder.glob("*/*.jpg")}
    assert {*paths(data.train_images), *paths(data.val_images)} == files
    told = "2 classes, 32 pictures to train on, 8 to validate on, held out (20% of each class)"
    assert capsys.readouterr().out == f"{folder}: {told}\n"


def test_what_lies_divided_is_read_so(folder, capsys):
    data = read(divided(folder, 5))
    assert (data.name, data.val_part) == ("photographs", "")
    assert {os.path.relpath(path, folder)[:5] for path in paths(data.train_images)} == {"train"}
    assert {os.path.relpath(path, folder)[:4] for path in paths(data.val_images)} == {"val/"}
    assert (len(data.train_images), len(data.val_images)) == (30, 10)
    assert f"10 to validate on, in {folder}/val" in capsys.readouterr().out


def with_test(folder):
    """Puts 3 of 5 validation pictures a class aside to test on."""
    for place in (divided(folder, 5) / "val").iterdir():
        (folder / "test" / place.name).mkdir(parents=True)
        for file in sorted(place.iterdir())[:3]:
            file.rename(folder / "test" / place.name / file.name)
    return folder


def test_what_lies_in_test_is_for_the_end_alone(folder, capsys):
    without = read(divided(shutil.copytree(folder, folder.with_name("copy")), 5))
    data = read(with_test(folder))
    assert {os.path.relpath(path, folder)[:5] for path in paths(data.test_images)} == {"test/"}
    assert data.test_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (len(data.train_images), len(data.val_images)) == (30, 4)
    assert f"4 to validate on, in {folder}/val, 6 to test on in the end" in capsys.readouterr().out
    assert data.fingerprint != without.fingerprint
    assert without.test_images is None


def test_of_three_parts_val_may_be_missing(folder):
    shutil.rmtree(with_test(folder) / "val")
    data = read(folder, holdout=0.5)
    assert [len(i) for i in (data.train_images, data.val_images, data.test_images)] == [14, 16, 6]


def test_bad_pictures_to_test_on_are_named_and_left_out(folder):
    files = sorted(with_test(folder).glob("test/*/*"))
    files[0].write_bytes(b"")
    with pytest.raises(UserError, match="1 of 40 pictures cannot be used"):
        read(folder)
    assert read(folder, skip_bad=True).test_labels.tolist() == [0, 0, 1, 1, 1]
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(UserError, match="has no pictures to test on that can be used"):
        read(folder, skip_bad=True)


def test_without_val_a_part_of_train_is_held_out(folder):
    shutil.rmtree(divided(folder, 5) / "val")
    data = read(folder, holdout=0.5)
    assert (len(data.train_images), len(data.val_images)) == (14, 16)
    assert data.val_part == "held out"


def test_the_mean_is_the_training_pictures_colour(folder):
    data = read(folder)
    means = [cv2.imread(path)[..., ::-1].mean(axis=(0, 1)) for path in paths(data.train_images)]
    np.testing.assert_allclose(data.mean, np.mean(means, axis=0), rtol=1e-5)
    assert (data.mean.dtype, data.mean.shape) == (np.float32, (3,))


def test_the_held_out_stay_held_out_when_files_are_renamed_and_others_come(folder):
    held = contents(read(folder).val_images)
    for number, path in enumerate(sorted(folder.glob("*/*.jpg"))):
        path.rename(path.with_name(f"{97 * number % 100}_renamed.jpg"))
    assert contents(read(folder).val_images) == held
    extra = folder / "flower" / "extra.png"
    cv2.imwrite(str(extra), np.full((99, 99, 3), 77, np.uint8))
    now = contents(read(folder).val_images)
    assert len(held - now) <= 1


def test_without_a_folder_there_is_a_sample_beside_the_record(tmp_path):
    first = read_photograph_folder(None, SIZE, record=tmp_path / "record.json")
    assert (len(first.train_images), len(first.val_images)) == (96, 24)
    again = read_photograph_folder(None, SIZE, record=tmp_path / "record.json")
    assert paths(first.train_images) == paths(again.train_images)


# what cannot be used


def png_of(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    blocks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in blocks
    )


@pytest.fixture
def spoilt(folder):
    """The folder with a bad file of each kind among the flowers, and what is wrong with each."""
    place = folder / "flower"
    whole = (place / "000.jpg").read_bytes()
    (place / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (place / "empty.jpg").touch()
    (place / "text.jpg").write_text("hello")
    (place / "small.png").write_bytes(cv2.imencode(".png", np.zeros((15, 300, 3), np.uint8))[1])
    (place / "large.png").write_bytes(png_of(20_000))
    (place / "nowhere.jpg").symlink_to("nothing")
    return folder, {
        "cut.jpg": "damaged",
        "empty.jpg": "is empty",
        "text.jpg": "truncated, damaged or not an image",
        "small.png": "has 300x15 pixels: too small to be enlarged to 64x64",
        "large.png": "has 20000x20000 pixels, and no more than 100,000,000 are decoded",
        "nowhere.jpg": "cannot be read: No such file or directory",
    }


def test_all_bad_files_are_named_together(spoilt, capsys):
    folder, wrong = spoilt
    with pytest.raises(BadImages, match=r"6 of 46 pictures cannot be used, .* and 3 more: mend"):
        read(folder)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    for name, problem in wrong.items():
        (line,) = [line for line in lines if name in line]
        assert line.startswith("bad: ")
        assert problem in line


def test_without_the_bad_files_it_goes_on_if_asked_to(spoilt, capsys):
    folder, wrong = spoilt
    data = read(folder, skip_bad=True)
    assert len(data.train_images) + len(data.val_images) == 40
    assert not wrong.keys() & {os.path.basename(path) for path in paths(data.train_images)}
    assert "6 of 46 pictures cannot be used and are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "there is no such folder"),
        (
            lambda folder: shutil.rmtree(folder / "temple"),
            "has fewer than two folders of classes: it must have",
        ),
        (lambda folder: (folder / "zebra").mkdir(), "no pictures in zebra; pictures are .jpg,"),
        (
            lambda folder: (divided(folder, 5) / "val/zebra").mkdir(),
            "val has classes that train lacks: zebra",
        ),
        (
            lambda folder: shutil.copytree(divided(folder, 5) / "val/temple", folder / "val/zebra"),
            "val has classes that train lacks: zebra",
        ),
        (
            lambda folder: shutil.copytree(with_test(folder) / "val/temple", folder / "test/zebra"),
            "test has classes that train lacks: zebra",
        ),
        (
            lambda folder: (divided(folder, 5) / "val/temple").rename(folder / "val/flower/x"),
            "has no pictures of temple to validate on",
        ),
        (
            lambda folder: [path.unlink() for path in sorted(folder.glob("temple/*"))[1:]],
            "class temple has 1 different pictures",
        ),
    ],
)
def test_a_folder_of_another_kind_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        read(folder)


def test_a_class_whose_pictures_are_all_bad_is_named(folder):
    for path in divided(folder, 5).glob("train/temple/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="has no pictures of temple to train on"):
        read(folder, skip_bad=True)


# what is told


def notes(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]


def test_of_good_pictures_nothing_is_told(folder, capsys):
    read(folder)
    assert notes(capsys) == []


@pytest.mark.parametrize("name", ["valid", "Testing"])
def test_other_folders_beside_train_are_told(name, folder, tmp_path, capsys):
    root = tmp_path / "root"
    for split in ("train", name):
        shutil.copytree(folder, root / split)
    (root / "hdf5").mkdir()  # without pictures
    read(root)
    note = f"ignored beside {root}/train: {name}; pictures to evaluate on lie in test or val"
    assert f"note: {note}" in notes(capsys)


def test_classes_that_have_the_same_classes_in_them_are_told(folder, tmp_path, capsys):
    root = tmp_path / "root"
    for split in ("Training", "Testing"):
        shutil.copytree(folder, root / split)
    read(root)
    note = "within each class, Testing, Training, the pictures lie in folders of the same names"
    assert any(told.startswith(f"note: {note}, flower, temple: ") for told in notes(capsys))


def test_few_pictures_and_unbalanced_classes_are_told(folder, capsys):
    for path in sorted(folder.glob("temple/*"))[5:]:
        path.unlink()
    read(folder)
    assert notes(capsys) == [
        "note: fewer than 10 pictures to train on: temple",
        "note: the classes are unbalanced: flower has 16 pictures to train on, temple 4",
    ]


def test_the_same_picture_to_train_on_and_to_validate_on_is_told(folder, capsys):
    divided(folder, 5)
    shutil.copy(folder / "train/flower/000.jpg", folder / "val/flower/copy.jpg")
    read(folder)
    (note,) = notes(capsys)
    assert "the same picture in both the training and the validation set, " in note
    assert "which inflates the accuracy: 1, for example " in note
    assert "train/flower/000.jpg and " in note
    assert note.endswith("val/flower/copy.jpg")


def test_the_same_picture_to_train_on_and_to_test_on_is_told(folder, capsys):
    with_test(folder)
    shutil.copy(folder / "train/flower/000.jpg", folder / "test/flower/copy.jpg")
    read(folder)
    (note,) = notes(capsys)
    assert (
        "the same picture in both the training and the test set, which inflates the accuracy: 1, "
        in note
    )


def test_of_the_same_picture_in_all_three_the_notes_name_the_two_that_they_are_about(
    folder, capsys
):
    with_test(folder)
    for split in ("val", "test"):
        shutil.copy(folder / "train/flower/000.jpg", folder / split / "flower/copy.jpg")
    shutil.copy(folder / "train/flower/000.jpg", folder / "val/temple/copy.jpg")
    read(folder)
    beside_val, beside_test, wrong_class = notes(capsys)
    first = f"for example {folder}/train/flower/000.jpg and {folder}"
    assert beside_val.endswith((f"{first}/val/flower/copy.jpg", f"{first}/val/temple/copy.jpg"))
    assert beside_test.endswith(f"{first}/test/flower/copy.jpg")
    assert re.search(r"for example .*/flower/\w+\.jpg and .*/temple/copy\.jpg$", wrong_class)


def test_a_class_without_pictures_to_test_on_is_told(folder, capsys):
    shutil.rmtree(with_test(folder) / "test/temple")
    assert np.bincount(read(folder).test_labels).tolist() == [3]
    assert "note: no pictures to test on of temple" in notes(capsys)


def test_the_same_picture_in_two_classes_is_told(folder, capsys):
    shutil.copy(folder / "flower/000.jpg", folder / "temple/copy.jpg")
    read(folder)
    assert any("in two classes, one of which is wrong" in note for note in notes(capsys))


def test_the_same_picture_twice_is_held_out_on_one_side(folder, capsys):
    for path in sorted(folder.glob("*/*.jpg")):
        shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    data = read(folder)
    assert notes(capsys) == []
    assert (len(data.train_images), len(data.val_images)) == (64, 16)


def test_files_of_other_kinds_are_told(folder, capsys):
    for name in ("a.heic", "b.heic", "notes.txt", ".DS_Store"):
        (folder / "flower" / name).touch()
    read(folder)
    assert notes(capsys) == ["note: ignored files of other kinds: .heic, .txt"]


# what is remembered


@pytest.fixture
def looked_at(monkeypatch):
    """The files that were looked at, in the order in which they were."""
    files = []

    def examine_images(some, function, original=inspection.examine_images):
        files.extend(map(os.path.basename, some))
        return original(some, function)

    monkeypatch.setattr(inspection, "examine_images", examine_images)
    return files


def test_a_second_start_looks_at_new_and_changed_files_only(folder, tmp_path, looked_at):
    record = tmp_path / "record.json"
    first = read(folder, record=record)
    assert len(looked_at) == 40
    looked_at.clear()
    second = read(folder, record=record)
    assert looked_at == []
    np.testing.assert_array_equal(first.mean, second.mean)
    assert list(first.train_images.files) == list(second.train_images.files)

    cv2.imwrite(str(folder / "flower/000.jpg"), np.zeros((70, 80, 3), np.uint8))
    shutil.copy(folder / "flower/001.jpg", folder / "temple/new.jpg")
    (folder / "temple/bad.jpg").touch()
    for _ in range(2):  # the bad one may have been mended
        read(folder, record=record, skip_bad=True)
    assert looked_at == ["000.jpg", "bad.jpg", "new.jpg", "bad.jpg"]


def test_what_was_seen_before_an_interruption_is_remembered(
    folder, tmp_path, looked_at, monkeypatch
):
    record = tmp_path / "record.json"

    def interrupted(files, function):
        yield from list(original(files[:25], function))
        raise KeyboardInterrupt

    original = inspection.examine_images
    monkeypatch.setattr(inspection, "examine_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(folder, record=record)
    monkeypatch.setattr(inspection, "examine_images", original)
    looked_at.clear()
    read(folder, record=record)
    assert len(looked_at) == 15


def test_what_was_seen_up_to_a_minute_before_a_kill_is_remembered(
    folder, tmp_path, looked_at, monkeypatch
):
    record = tmp_path / "record.json"

    def killed(files, function):
        yield from itertools.islice(original(files, function), 25)
        os._exit(0)

    original = inspection.examine_images
    for seconds, left in ((math.inf, 40), (-1, 15)):
        monkeypatch.setattr(inspection, "SECONDS_AT_STAKE", seconds)
        monkeypatch.setattr(inspection, "examine_images", killed)
        child = multiprocessing.get_context("fork").Process(
            target=read, args=(folder,), kwargs={"record": record}
        )
        child.start()
        child.join()
        monkeypatch.setattr(inspection, "examine_images", original)
        looked_at.clear()
        read(folder, record=record)
        assert len(looked_at) == left
        record.unlink()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"a": 1}', '{"a": [[1, 2], {}]}', "[" * 9999]
)
def test_what_is_no_record_is_as_good_as_none(folder, tmp_path, content, whole, looked_at):
    record = tmp_path / "record.json"
    record.write_bytes(sealed(content.encode()) if whole else content.encode())
    read(folder, record=record)
    assert len(looked_at) == 40
    assert len(json.loads(unsealed(record.read_bytes()))) == 40


def test_a_changed_record_does_not_change_the_mean(folder, tmp_path, looked_at):
    record = tmp_path / "record.json"
    mean = read(folder, record=record).mean
    content = record.read_bytes()
    place = content.index(b'"mean": [') + len(b'"mean": [')
    digit = b"9" if content[place : place + 1] != b"9" else b"8"
    record.write_bytes(content[:place] + digit + content[place + 1 :])
    np.testing.assert_array_equal(read(folder, record=record).mean, mean)
    assert len(looked_at) == 80


@pytest.mark.parametrize(
    "changed",
    [
        {"width": "100"},
        {"height": 0},
        {"width": 10**9},
        {"mean": [1.0, 2.0]},
        {"mean": [1.0, 2.0, math.nan]},
        {"digest": "0"},
        {"digest": 1},
    ],
    ids=str,
)
def test_a_forged_record_is_as_good_as_none(folder, tmp_path, changed, looked_at):
    record = tmp_path / "record.json"
    read(folder, record=record)
    looks = json.loads(unsealed(record.read_bytes()))
    next(iter(looks.values()))[1].update(changed)
    record.write_bytes(sealed(json.dumps(looks).encode()))
    read(folder, record=record)
    assert len(looked_at) == 80


@pytest.mark.parametrize("put", [specialfiles.pipe, specialfiles.endless, specialfiles.sparse])
def test_no_record_is_waited_for_or_read_without_an_end(folder, tmp_path, put, looked_at):
    put(tmp_path / "record.json")
    with specialfiles.at_once(20):
        read(folder, record=tmp_path / "record.json")
    assert len(looked_at) == 40
