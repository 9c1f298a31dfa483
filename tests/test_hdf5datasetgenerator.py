import os
import random
import shutil

import h5py
import numpy as np
import pytest

from pipeline.augmentation.geometry import AffineAugmenter
from pipeline.batches import EvaluationBatches, TrainingBatches
from pipeline.errors import UserError
from pipeline.files.seal import SEAL_BYTES, seal
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor

NAMES = (("n1", "cat"), ("n2", "dog"), ("n3", "Kätzchen"))
COUNT, SIZE = 50, 8
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = RNG.integers(0, len(NAMES), COUNT)


@pytest.fixture
def path(tmp_path):
    with HDF5DatasetWriter(IMAGES.shape, tmp_path / "a.hdf5", NAMES) as writer:
        writer.add(IMAGES, LABELS)
    return tmp_path / "a.hdf5"


def assert_same(batch, other):
    for ours, theirs in zip(batch, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_has_what_was_written(path):
    data = HDF5DatasetGenerator(path)
    np.testing.assert_array_equal(data.images[np.arange(COUNT)], IMAGES)
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.label_names == NAMES


def test_training_batches_are_those_of_the_images_in_memory(path):
    mean = MeanPreprocessor(np.ones(3))

    def settings():
        steps = [lambda images, rng: mean.preprocess(images), AffineAugmenter(rotation=9)]
        return 16, steps, 7, 2

    data = HDF5DatasetGenerator(path)
    from_file = TrainingBatches(data.images, data.labels, *settings())
    in_memory = TrainingBatches(IMAGES, LABELS, *settings())
    assert from_file.steps_per_epoch == 3
    for index in (0, 2, 3, 7):
        assert_same(from_file[index], in_memory[index])


def test_evaluation_batches_have_every_image_once_in_the_files_order(path):
    data = HDF5DatasetGenerator(path)
    batches = EvaluationBatches(data.images, data.labels, 16, workers=2)
    read = [batches[index] for index in range(batches.num_batches)]
    assert [len(labels) for _, labels in read] == [16, 16, 16, 2]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in read]), IMAGES)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in read]), LABELS)


# What is refused on opening


def sealed(path):
    with open(path, "r+b") as file:
        file.write(seal(file, path.stat().st_size))
    return path


def remade(path, **changes):
    """A file like `path`, made by plain h5py, with changes to its members and attributes."""
    members = {"images": IMAGES, "labels": LABELS, "label_names": np.char.encode(NAMES, "utf-8")}
    complete = changes.pop("complete", True)
    with h5py.File(path, "w") as file:
        for name, value in (members | changes).items():
            if callable(value):
                value(file, name)
            elif value is not None:
                file[name] = value
        if complete is not None:
            file.attrs["complete"] = complete
    return sealed(path)


def refused(path, message):
    with pytest.raises(UserError, match=message) as refusal:
        HDF5DatasetGenerator(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_any_sealed_hdf5_file_of_that_form_will_do(path):
    data = HDF5DatasetGenerator(remade(path))
    np.testing.assert_array_equal(data.images[np.arange(COUNT)], IMAGES)
    assert data.label_names == NAMES


@pytest.mark.parametrize("complete", [None, False, 0])
def test_an_unfinished_file(path, complete):
    refused(remade(path, complete=complete), "it is unfinished.: build it again")


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / "nowhere.hdf5", "there is no such file; build_tiny_imagenet.py makes it")
    refused(tmp_path, "cannot be read: Is a directory")


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_a_truncated_file(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "truncated, damaged or not written by this project")


def test_a_sealed_text(path):
    path.write_text("this is not what you think")
    refused(sealed(path), "truncated, or not an HDF5 file")


@pytest.mark.parametrize(
    "images",
    [IMAGES.astype(float), IMAGES[..., :1], IMAGES[:, :4], IMAGES[0], IMAGES[:0]],
    ids=["float64", "gray", "not square", "one", "none"],
)
def test_other_images(path, images):
    refused(remade(path, images=images), "instead of uint8")


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_labels_out_of_range(path, label):
    labels = LABELS.copy()
    labels[17] = label
    refused(remade(path, labels=labels), f"labels from .*{label}.* instead of 0 to 2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", LABELS[:-1]),
        ("labels", LABELS.astype(float)),
        ("label_names", np.arange(6).reshape(3, 2)),
        ("labels", h5py.Empty("i4")),
        ("label_names", b"cat"),
        ("label_names", np.array([[b"\xff", b"\xff"]] * 3)),
        ("images", None),
        ("labels", None),
        ("label_names", None),
        ("images", lambda file, name: file.create_group(name)),
        ("labels", lambda file, name: file.create_group(name)),
    ],
)
def test_members_of_another_kind(path, name, value):
    refused(remade(path, **{name: value}), f"(its|no) {name}|can't decode")


def test_images_that_are_not_in_one_piece_or_compressed(path):
    def chunked(file, name):
        file.create_dataset(name, data=IMAGES, chunks=(1, 8, 8, 3))

    def compressed(file, name):
        file.create_dataset(name, data=IMAGES, compression="gzip")

    for create in (chunked, compressed):
        refused(remade(path, images=create), "its images is chunked or compressed")


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("images", (9, SIZE, SIZE, 3), "u1", "its images lie outside it"),
        ("images", (10**9, SIZE, SIZE, 3), "u1", "its images is larger than it"),
        ("labels", (10**9,), "i4", "its labels is larger than it"),
        ("label_names", (3, 2), "S1000000", "its label_names is larger than it"),
    ],
)
def test_data_that_were_never_written(path, name, shape, dtype, message):
    def empty(file, name):
        file.create_dataset(name, shape, dtype)

    refused(remade(path, **{name: empty}), message)


@pytest.mark.parametrize("name", ["images", "labels", "label_names"])
def test_data_that_lie_outside_the_file(path, tmp_path, name):
    other = remade(tmp_path / "other.hdf5")

    def external_link(file, name):
        file[name] = h5py.ExternalLink(other, name)

    def soft_link(file, name):
        file[name] = h5py.SoftLink("/elsewhere")

    def external_storage(file, name):
        with h5py.File(other) as source:
            like = source[name]
            file.create_dataset(name, like.shape, like.dtype, external=[("/etc/passwd", 0, 10**6)])

    def virtual(file, name):
        with h5py.File(other) as source:
            layout = h5py.VirtualLayout(source[name].shape, source[name].dtype)
            layout[...] = h5py.VirtualSource(source[name])
        file.create_virtual_dataset(name, layout)

    for create in (external_link, soft_link):
        refused(remade(path, **{name: create}), f"it has no {name} of its own")
    for create in (external_storage, virtual):
        refused(remade(path, **{name: create}), f"its {name} lies outside it")


def test_whatever_was_changed_and_sealed_anew_it_opens_or_is_refused_in_one_line(path, tmp_path):
    whole = path.read_bytes()[:-SEAL_BYTES]
    header = len(whole) - IMAGES.nbytes
    chance = random.Random(0)
    refusals = []
    for _ in range(400):
        damaged = bytearray(whole)
        for place in chance.sample(range(header), 2):
            damaged[place] = chance.randrange(256)
        (tmp_path / "damaged.hdf5").write_bytes(damaged)
        try:
            data = HDF5DatasetGenerator(sealed(tmp_path / "damaged.hdf5"))
            data.images[np.arange(len(data.images))]
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert not any("\n" in refusal for refusal in refusals)


def test_the_file_may_be_read_only_and_be_moved_while_it_is_open(path, tmp_path):
    os.chmod(path, 0o444)
    data = HDF5DatasetGenerator(path)
    shutil.move(path, tmp_path / "moved.hdf5")
    np.testing.assert_array_equal(data.images[np.array([3])], IMAGES[[3]])
