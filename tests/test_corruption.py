"""Damage to checkpoints and data files: random cases, and every one is noticed.

A stored checksum decides, not luck: each file ends with the SHA-256 of all its other bytes.
"""

import resource
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.files.checkpoints import checkpoint_path, newest_checkpoint
from pipeline.files.modelfile import load_body
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter

CASES = 50  # of each kind of file
SIZE = 8
NAMES = (("n1", "cat"), ("n2", "dog"))


def flip(content: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        content[place] ^= 1 << rng.integers(8)


def truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[rng.integers(len(content)) :]


def zero(content: bytearray, rng: np.random.Generator) -> None:
    length = int(2 ** rng.uniform(0, 12))
    start = rng.integers(len(content))
    content[start : start + length] = bytes(len(content[start : start + length]))


def damaged(whole: bytes, cases: int, seed: int) -> Iterator[bytes]:
    """Yields damaged versions of a file."""
    rng = np.random.default_rng(seed)
    while cases:
        content = bytearray(whole)
        rng.choice([flip, truncate, zero])(content, rng)
        if content != whole:  # zeros may have met zeros
            yield bytes(content)
            cases -= 1


@pytest.fixture
def bounded():
    """Lets the test take neither much memory nor long."""
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # KiB
    assert (time.process_time() - start) / CASES < 0.5  # seconds a case, on a slow processor too


def test_resume_passes_over_every_damaged_checkpoint_and_says_so(
    write_checkpoint, tmp_path, capsys, bounded
):
    write_checkpoint(checkpoint_path(tmp_path, 1), 1)
    newest = write_checkpoint(checkpoint_path(tmp_path, 2), 2)
    assert newest_checkpoint(tmp_path).epoch == 2
    capsys.readouterr()
    for content in damaged(newest.read_bytes(), CASES, seed=1):
        newest.write_bytes(content)
        assert newest_checkpoint(tmp_path).epoch == 1
        warning = capsys.readouterr().err
        assert warning.startswith(f"warning: {newest} is truncated, damaged or not written by this")
        assert warning.count("\n") == 1


def test_every_damaged_model_is_refused_before_any_weight_changes(
    write_checkpoint, tmp_path, tiny_network
):
    path = write_checkpoint(tmp_path / "epoch_1.hdf5", 1)
    model = tiny_network().network
    before = model.get_weights()
    for content in damaged(path.read_bytes(), CASES, seed=2):
        path.write_bytes(content)
        with pytest.raises(UserError, match=str(path)):
            load_body(path, model)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_every_damaged_data_file_is_refused_whether_images_labels_or_structure(tmp_path, bounded):
    path = tmp_path / "train.hdf5"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, SIZE, SIZE, 3), dtype=np.uint8)
    with HDF5DatasetWriter(images.shape, path, NAMES) as writer:
        writer.add(images, rng.integers(0, 2, 100))
    assert len(HDF5DatasetGenerator(path).labels) == 100

    for content in damaged(path.read_bytes(), CASES, seed=3):
        path.write_bytes(content)
        with pytest.raises(UserError) as refusal:
            HDF5DatasetGenerator(path)
        assert str(refusal.value).startswith(f"{path} cannot be used (it is truncated, damaged")
