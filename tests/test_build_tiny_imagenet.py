"""build_tiny_imagenet.py as a user runs it: on real files, interrupted, and short of disk."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial

import cv2
import h5py
import numpy as np
import pytest
from forkedscript import ROOT, finish, start
from processes import run
from resealed import reseal
from signalled import signal_before

import build_tiny_imagenet
from config import tiny_imagenet_config as config
from pipeline.command_line import script
from pipeline.errors import UserError
from pipeline.io import imagefiles
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator, read_hdf5_dataset
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor

pytestmark = pytest.mark.thorough

SCRIPT = "build_tiny_imagenet.py"
FILES = {"train.hdf5", "val.hdf5", "test.hdf5", "mean.json"}
SIZE = config.IMAGE_SIZE
COLOURS = {"n1": (200, 100, 50), "n2": (20, 40, 60), "n3": (90, 90, 90)}  # red, green, blue
PER_CLASS = 8


def write_image(path, rgb, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size, size, 3), rgb[::-1], np.uint8))


@pytest.fixture
def root(tmp_path):
    """The layout of Tiny ImageNet: three classes, each of one colour, in real JPEGs."""
    root = tmp_path / "tiny"
    lines = []
    for wordnet_id, rgb in COLOURS.items():
        for number in range(PER_CLASS):
            name = f"{wordnet_id}_{number}.JPEG"
            write_image(root / "train" / wordnet_id / "images" / name, rgb)
        write_image(root / "val" / "images" / f"val_{wordnet_id}.JPEG", rgb)
        lines.append(f"val_{wordnet_id}.JPEG\t{wordnet_id}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("n2\nn3\nn1\n")
    (root / "words.txt").write_text("n1\tcat\nn2\tdog\nn3\tfish\n")
    return root


def options(root, *more, per_class=2):
    return ["--dataset-path", root, "--test-per-class", per_class, *more]


@pytest.fixture
def build(monkeypatch, capfd):
    """Runs the script in this process, which saves the imports; returns what it printed."""

    def build(*arguments):
        monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, arguments)])
        script.run(build_tiny_imagenet.main)
        printed = capfd.readouterr()
        assert printed.err == ""
        return printed.out

    return build


@pytest.fixture
def refused(build, capfd):
    """Runs the script, which must complain; returns its one line."""

    def refused(*arguments):
        with pytest.raises(SystemExit) as exit_:
            build(*arguments)
        assert exit_.value.code == 2
        line = capfd.readouterr().err
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        return line

    return refused


def visible(folder):
    return {name for name in os.listdir(folder) if not name.startswith(".")}


def opened(folder, split, classes=3):
    data = HDF5DatasetGenerator(folder / f"{split}.hdf5")
    assert (len(data.label_names), data.size) == (classes, SIZE)
    return data


def all_images(data):
    return data.images[np.arange(len(data.images))]


def test_a_data_set_in_miniature_comes_out_whole(tiny_imagenet_sample, tmp_path):
    printed = run(
        SCRIPT,
        *("--dataset-path", tiny_imagenet_sample, "--hdf5", tmp_path, "--test-per-class", 2),
    )
    assert visible(tmp_path) == FILES
    assert "3,000 images" in printed
    total = np.zeros(3)
    for split, per_class in (("train", 8), ("val", None), ("test", 2)):
        data = opened(tmp_path, split, config.NUM_CLASSES)
        counts = np.bincount(data.labels, minlength=config.NUM_CLASSES)
        assert per_class is None or (counts == per_class).all()
        assert data.label_names[0] == ("n10000000", "temple, row 0, column 0")
        size = (tmp_path / f"{split}.hdf5").stat().st_size
        assert size / len(data.labels) < 12_288 * 1.02
        if split == "train":
            total = all_images(data).mean(axis=(0, 1, 2))
    mean = json.loads((tmp_path / "mean.json").read_text())
    np.testing.assert_allclose([mean[channel] for channel in "RGB"], total)

    # Each validation image is the file's, under the label of the annotations.
    val = opened(tmp_path, "val", config.NUM_CLASSES)
    ids = [wordnet_id for wordnet_id, _ in val.label_names]
    folder = tiny_imagenet_sample / "val"
    lines = (folder / "val_annotations.txt").read_text().splitlines()
    label_of = {line.split("\t")[0]: ids.index(line.split("\t")[1]) for line in lines}
    files = sorted(label_of, key=lambda name: (len(name), name))
    assert val.labels.tolist() == [label_of[name] for name in files]
    for index in (0, 500, 999):
        expected = cv2.imread(str(folder / "images" / files[index]))[..., ::-1]
        np.testing.assert_array_equal(val.images[np.array([index])][0], expected)


@pytest.mark.slow
@pytest.mark.needs("tiny-imagenet-200")
def test_the_real_data_set_comes_out_as_the_readme_says(real_tiny_imagenet, tmp_path):
    printed = run(SCRIPT, "--dataset-path", real_tiny_imagenet, "--hdf5", tmp_path)
    readme = (ROOT / "README.md").read_text()
    for split in ("train", "val", "test"):
        assert f"{(tmp_path / f'{split}.hdf5').stat().st_size:,}" in readme
    assert re.search(r"mean: (.*)", printed)[1] in readme
    data = opened(tmp_path, "train", config.NUM_CLASSES)
    assert data.label_names[0] == ("n01443537", "goldfish, Carassius auratus")
    assert np.bincount(data.labels).tolist() == [450] * 200


def test_the_files_go_below_the_data_set_unless_told_otherwise(root, build):
    build(*options(root))
    assert visible(root / "hdf5") == FILES
    assert {path.name for path in (root / "hdf5").iterdir() if path.is_symlink()} == {
        ".current",
        *FILES,
    }


def test_every_image_has_its_classs_colour_in_all_splits(root, build):
    build(*options(root))
    for split, count in (("train", 18), ("val", 3), ("test", 6)):
        data = opened(root / "hdf5", split)
        assert data.label_names == (("n1", "cat"), ("n2", "dog"), ("n3", "fish"))
        expected = np.array(list(COLOURS.values()))[data.labels]
        assert len(expected) == count
        np.testing.assert_allclose(all_images(data)[:, 9, 9].astype(int), expected, atol=2)
    mean = json.loads((root / "hdf5" / "mean.json").read_text())
    assert list(mean) == ["R", "G", "B", "build"]
    np.testing.assert_allclose(
        list(mean.values())[:3], np.mean(list(COLOURS.values()), axis=0), atol=1.5
    )


def test_built_again_the_files_are_the_same_to_the_byte(root, tmp_path, build):
    for name in ("a", "b"):
        build(*options(root, "--hdf5", tmp_path / name))
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_existing_files_are_refused_unless_overwritten(root, build, refused):
    hdf5 = root / "hdf5"
    hdf5.mkdir()
    (hdf5 / "val.hdf5").write_text("precious")
    assert "val.hdf5 exists already: --overwrite replaces it" in refused(*options(root))
    assert (hdf5 / "val.hdf5").read_text() == "precious"
    assert visible(hdf5) == {"val.hdf5"}
    build(*options(root, "--overwrite"))
    assert len(opened(hdf5, "val").labels) == 3


# what is not of one build


def test_the_mean_is_in_every_file(root, build):
    build(*options(root))
    expected = MeanPreprocessor.from_json(root / "hdf5" / "mean.json").mean
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(opened(root / "hdf5", split).mean, expected)


def test_every_bit_of_the_mean_beside_the_files_counts(root, build):
    build(*options(root))
    path = root / "hdf5" / "mean.json"
    whole = path.read_bytes()
    expected = MeanPreprocessor.from_json(path).mean
    for place in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            opened(root / "hdf5", "test")
        except UserError:
            continue
        # White space, or a digit beyond what float32 has.
        np.testing.assert_array_equal(MeanPreprocessor.from_json(path).mean, expected)


def test_training_images_do_not_pass_for_test_images(root, build):
    build(*options(root))
    hdf5 = root / "hdf5"
    (hdf5 / "test.hdf5").unlink()
    shutil.copy(hdf5 / "train.hdf5", hdf5 / "test.hdf5")
    with pytest.raises(UserError, match=r"test\.hdf5 holds the images of train\.hdf5"):
        opened(hdf5, "test")


def test_files_of_two_builds_do_not_pass_for_one(root, build):
    for name, per_class in (("a", 2), ("b", 3)):
        build(*options(root, "--hdf5", root / name, per_class=per_class))
    for name in ("train", "val", "test"):  # the validation images of both are the same
        shutil.copy(root / "b" / f"{name}.hdf5", root / "a" / f"{name}.hdf5")
        with pytest.raises(UserError, match=rf"{name}\.hdf5 and mean\.json .* not of one build"):
            opened(root / "a", name)
    shutil.copy(root / "b" / "mean.json", root / "a" / "mean.json")
    opened(root / "a", "train")


def test_nor_where_there_is_no_mean_beside_them(root, build):
    for name, per_class in (("a", 2), ("b", 3)):
        build(*options(root, "--hdf5", root / name, per_class=per_class))
        (root / name / "mean.json").unlink()
    first = read_hdf5_dataset(root / "a")
    assert first.fingerprint not in (None, read_hdf5_dataset(root / "b").fingerprint)
    with h5py.File(root / "a" / "train.hdf5") as file:
        mean = file["mean"][:]
    shutil.copy(root / "b" / "val.hdf5", root / "a" / "val.hdf5")
    reseal(root / "a" / "val.hdf5", lambda file: file["mean"].write_direct(mean))
    with pytest.raises(UserError, match=r"val\.hdf5 has another build than .*train\.hdf5"):
        read_hdf5_dataset(root / "a")


def test_files_of_earlier_builds_are_read_with_the_mean_beside_them(root, build):
    """Those that say nothing of where they come from."""
    build(*options(root))
    path, hdf5 = root / "hdf5" / "train.hdf5", root / "hdf5"

    def change(file):
        del file.attrs["origin"], file["mean"]

    reseal(path, change)
    colour = json.loads((hdf5 / "mean.json").read_text())
    del colour["build"]
    (hdf5 / "mean.json").write_text(json.dumps(colour))
    assert opened(hdf5, "train").mean is None
    assert MeanPreprocessor.from_json(hdf5 / "mean.json").mean[0] == np.float32(colour["R"])


# bad data


def truncate(root):
    path = root / "train" / "n2" / "images" / "n2_5.JPEG"
    path.write_bytes(path.read_bytes()[:-20])
    return f"{path} is truncated, damaged or not an image"


def damage(root):
    path = root / "val" / "images" / "val_n2.JPEG"
    path.write_bytes(b"not an image")
    return f"{path} is truncated, damaged or not an image"


def resize(root):
    path = root / "train" / "n3" / "images" / "n3_0.JPEG"
    write_image(path, (1, 2, 3), size=32)
    return f"{path} has 32x32 pixels instead of 64x64"


def add_image(root):
    path = root / "val" / "images" / "val_9.JPEG"
    write_image(path, (1, 2, 3))
    return f"{path} has no label in {root / 'val' / 'val_annotations.txt'}"


def remove_image(root):
    path = root / "val" / "images" / "val_n1.JPEG"
    path.unlink()
    return f"{path} is missing, and {root / 'val' / 'val_annotations.txt'} has a label for it"


BAD = [truncate, damage, resize, add_image, remove_image]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_bad_data_are_named_in_one_line_and_nothing_is_left(root, refused, spoil):
    problem = spoil(root)
    assert refused(*options(root)) == f"error: {problem}; --skip-bad goes on without them\n"
    assert os.listdir(root / "hdf5") == [".lock"]


def test_bad_data_can_be_left_out_and_are_listed(root, build, monkeypatch):
    monkeypatch.setattr(imagefiles, "BLOCK", 5)
    problems = [spoil(root) for spoil in BAD]
    printed = build(*options(root, "--skip-bad"))
    listed = [line for line in printed.splitlines() if line.startswith("left out: ")]
    assert sorted(listed) == sorted(f"left out: {problem}" for problem in problems)
    counts = {split: opened(root / "hdf5", split).labels for split in ("train", "val", "test")}
    assert np.bincount(counts["train"]).tolist() == [6, 5, 5]
    assert np.bincount(counts["test"]).tolist() == [2, 2, 2]
    assert counts["val"].tolist() == [2]


def test_nothing_is_said_of_bad_data_where_there_are_none(root, build):
    printed = build(*options(root, "--skip-bad"))
    assert "left out: " not in printed
    assert "0 left out" in printed


def test_when_all_images_are_bad_nothing_is_built(root, refused):
    for path in (root / "val" / "images").iterdir():
        path.write_bytes(b"")
    assert "val_n1.JPEG and the other 2 images cannot be used" in refused(
        *options(root, "--skip-bad")
    )


def test_what_cannot_be_left_out_is_refused_all_the_same(root, tmp_path, refused):
    assert "class n1 has 8 training images: too few to hold out 8" in refused(
        *options(root, "--skip-bad", per_class=8)
    )
    assert "nowhere: there is no such folder" in refused(*options(tmp_path / "nowhere"))
    (root / "words.txt").unlink()
    assert "words.txt cannot be read: No such file or directory" in refused(*options(root))


# interruptions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_interrupted_build_leaves_the_old_files_and_the_next_one_goes_through(
    root, build, tmp_path, split, number
):
    hdf5 = root / "hdf5"
    hdf5.mkdir()
    for name in FILES:
        (hdf5 / name).write_text("old")
    unfinished = hdf5 / ".unfinished"
    log, errors = tmp_path / "log", tmp_path / "errors"
    interrupt = partial(signal_before, "os.rename", f".{split}.hdf5.tmp", number)
    process = start(SCRIPT, *options(root, "--overwrite"), log=log, errors=errors, first=interrupt)
    assert finish(process) in (-number, 128 + number)
    assert {name: (hdf5 / name).read_text() for name in visible(hdf5)} == dict.fromkeys(
        FILES, "old"
    )
    if number == signal.SIGINT:
        assert errors.read_text() == ""
        assert not unfinished.exists()
    else:
        assert (unfinished / f".{split}.hdf5.tmp").stat().st_size > 0

    build(*options(root, "--overwrite"))
    assert len(opened(hdf5, "train").labels) == 18
    assert len(os.listdir(hdf5)) == len([".lock", ".current", ".files_N", *FILES])


def test_after_a_kill_behind_the_last_byte_the_same_command_publishes_what_was_built(root, build):
    build(*options(root))
    hdf5 = root / "hdf5"
    (hdf5 / ".files_1").rename(hdf5 / ".complete")
    (hdf5 / ".current").unlink()
    assert "an earlier build was killed after all was written" in build(*options(root))
    assert len(opened(hdf5, "train").labels) == 18
    (hdf5 / ".files_1").rename(hdf5 / ".complete")
    assert "27 images" in build(*options(root, "--overwrite"))


def test_a_full_disk_is_named_in_one_line_and_nothing_is_left(root):
    # A limit on the size of files stands in for the disk: writing fails in the same place.
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    done = subprocess.run(
        [sys.executable, *map(str, [SCRIPT, *options(root)])],
        cwd=ROOT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    path = root / "hdf5" / ".unfinished" / "train.hdf5"
    assert done.returncode == 2
    assert done.stderr == f"error: {path} cannot be written: File too large\n"
    assert os.listdir(root / "hdf5") == [".lock"]


ANSWER = """
import runpy, sys
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*({"cv2", "h5py", "sklearn", "keras", "tensorflow"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--test-per-class", "0"], 2)])
def test_help_and_wrong_options_are_answered_before_anything_slow_is_imported(
    run_python, arguments, status
):
    done = run_python("-c", f"import sys; sys.argv = {[SCRIPT, *arguments]}\n{ANSWER}")
    assert done.returncode == status
    assert done.stdout.splitlines()[-1] == ""


def test_without_arguments_it_takes_the_configured_data_set(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    assert refused().startswith(f"error: {config.DATASET}: there is no such folder")
