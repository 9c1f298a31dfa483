import numpy as np
import pytest
import specialfiles

from pipeline.errors import UserError
from pipeline.io.tiny_imagenet import Split, hold_out, list_train, list_val, read_label_names

NAMES = (("n1", "cat"), ("n2", "dog"), ("n3", "fish"))
VAL = "val_0.JPEG\tn3\t0\t32\t44\t62\nval_1.JPEG\tn1\t5\t5\t9\t9\nval_2.JPEG\tn3\t0\t0\t1\t1\n"


@pytest.fixture
def root(tmp_path):
    """The layout of Tiny ImageNet, with three classes and empty files for images."""
    (tmp_path / "wnids.txt").write_text("n3\nn1\nn2\n")
    (tmp_path / "words.txt").write_text("n0\tentity\nn1\tcat\nn2\tdog\nn3\tfish\n")
    for wordnet_id, _ in NAMES:
        folder = tmp_path / "train" / wordnet_id / "images"
        folder.mkdir(parents=True)
        (folder.parent / f"{wordnet_id}_boxes.txt").touch()
        for number in range(12):
            (folder / f"{wordnet_id}_{number}.JPEG").touch()
    (tmp_path / "val" / "images").mkdir(parents=True)
    (tmp_path / "val" / "val_annotations.txt").write_text(VAL)
    for number in range(3):
        (tmp_path / "val" / "images" / f"val_{number}.JPEG").touch()
    return tmp_path


def label_names(root):
    return read_label_names(root / "wnids.txt", root / "words.txt")


def val(root):
    """The validation split, and what is wrong with it."""
    problems = []
    folder = root / "val"
    split = list_val(folder / "images", folder / "val_annotations.txt", NAMES, problems.append)
    return split, problems


def names(split):
    return [file.rsplit("/", 1)[1] for file in split.files]


# classes


def test_classes_come_in_the_order_of_their_ids_with_their_words(root):
    assert label_names(root) == NAMES


def test_text_files_may_be_written_on_windows(root):
    for name in ("wnids.txt", "words.txt"):
        text = (root / name).read_text()
        (root / name).write_text(text, encoding="utf-8-sig", newline="\r\n")
    assert label_names(root) == NAMES


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wnids.txt", "", r"wnids\.txt must name each class once: got 0 lines"),
        ("wnids.txt", "n1\nn2\nn1\n", r"wnids\.txt must name each class once: got 3 lines"),
        ("words.txt", "n1\tcat\nn3\tfish\n", r"words\.txt has no words for n2"),
        ("wnids.txt", "\x80", r"wnids\.txt is not a text file"),
    ],
)
def test_classes_that_are_not_clear_are_refused(root, file, content, message):
    (root / file).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=message):
        label_names(root)


# training images


def test_training_images_have_their_folders_label_and_come_in_the_order_of_their_numbers(root):
    split = list_train(root / "train", NAMES)
    assert names(split) == [f"{name}_{i}.JPEG" for name, _ in NAMES for i in range(12)]
    np.testing.assert_array_equal(split.labels, np.repeat([0, 1, 2], 12))
    assert split.labels.dtype == np.int32


def test_what_finder_leaves_behind_is_passed_over(root):
    (root / "train" / ".DS_Store").touch()
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "n1" / ".DS_Store").touch()
    (root / "train" / "n1" / "images" / "._n1_0.JPEG").touch()
    (root / "val" / "images" / ".DS_Store").touch()
    assert len(list_train(root / "train", NAMES).files) == 36
    assert len(val(root)[0].files) == 3


def test_a_class_without_a_folder_and_a_folder_without_a_class_are_named(root):
    (root / "train" / "n1").rename(root / "train" / "n9")
    with pytest.raises(UserError, match="n1: the folder of this class is missing"):
        list_train(root / "train", NAMES)
    (root / "train" / "n1").mkdir()
    with pytest.raises(UserError, match="n9 is the folder of no known class"):
        list_train(root / "train", NAMES)


# validation images


def test_validation_images_get_their_labels_from_the_annotations(root):
    split, problems = val(root)
    assert problems == []
    assert names(split) == ["val_0.JPEG", "val_1.JPEG", "val_2.JPEG"]
    assert split.labels.tolist() == [2, 0, 2]


def test_an_image_without_a_label_and_a_label_without_an_image_are_left_out_and_named(root):
    (root / "val" / "images" / "val_1.JPEG").rename(root / "val" / "images" / "val_7.JPEG")
    split, problems = val(root)
    assert names(split) == ["val_0.JPEG", "val_2.JPEG"]
    assert split.labels.tolist() == [2, 2]
    folder = root / "val"
    assert problems == [
        f"{folder / 'images' / 'val_7.JPEG'} has no label in {folder / 'val_annotations.txt'}",
        f"{folder / 'images' / 'val_1.JPEG'} is missing, and "
        f"{folder / 'val_annotations.txt'} has a label for it",
    ]


@pytest.mark.parametrize(
    "line", ["val_3.JPEG", "val_3.JPEG\t", "val_3.JPEG\tn9", "val_3.JPEG n1", "val_0.JPEG\tn1"]
)
def test_a_line_that_gives_no_class_or_a_second_one_is_named(root, line):
    (root / "val" / "val_annotations.txt").write_text(VAL + line)
    with pytest.raises(UserError, match=r"val_annotations\.txt, line 4: expected an image and"):
        val(root)


def test_no_validation_images_at_all_are_refused(root):
    for file in (root / "val" / "images").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="images has no images"):
        val(root)


# test images


def split_of(*counts):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Split([f"{number}.JPEG" for number in range(len(labels))], labels)


@pytest.mark.parametrize("counts", [(20, 20, 20), (500, 493, 499), (60, 6, 20)])
def test_each_class_gives_the_same_number_and_keeps_the_rest(counts):
    everything = split_of(*counts)
    kept, held_out = hold_out(everything, 5, 42, NAMES)
    assert np.bincount(kept.labels).tolist() == [count - 5 for count in counts]
    assert np.bincount(held_out.labels).tolist() == [5, 5, 5]
    assert sorted(kept.files + held_out.files) == sorted(everything.files)
    for part in (kept, held_out):
        expected = everything.labels[[everything.files.index(file) for file in part.files]]
        np.testing.assert_array_equal(part.labels, expected)


@pytest.mark.parametrize("counts", [(20, 20, 20), (60, 6, 20)])
def test_the_seed_alone_decides_which(counts):
    chosen = [hold_out(split_of(*counts), 5, seed, NAMES)[1].files for seed in (42, 42, 43)]
    assert chosen[0] == chosen[1]
    assert set(chosen[0]) != set(chosen[2])


def test_a_few_missing_images_of_a_class_change_nothing():
    _, held_out = hold_out(split_of(500, 493, 499), 50, 42, NAMES)
    assert np.bincount(held_out.labels).tolist() == [50, 50, 50]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_class_with_too_few_images_is_named(count):
    message = f"class n2 has {count} training images: too few to hold out 5 and keep some"
    with pytest.raises(UserError, match=message):
        hold_out(split_of(20, count, 20), 5, 42, NAMES)


@pytest.mark.parametrize(
    "put", [specialfiles.sparse, *specialfiles.SPECIAL], ids=lambda put: put.__name__
)
def test_what_is_no_file_of_a_lists_size_is_refused_at_once(tmp_path, put):
    put(tmp_path / "wnids.txt")
    with specialfiles.at_once(), pytest.raises(UserError, match=r"wnids\.txt cannot be read: "):
        read_label_names(tmp_path / "wnids.txt", tmp_path / "words.txt")
