import multiprocessing
import os
import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.io.hdf5images import HDF5Images

COUNT = 50
OFFSET = 123


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 8, 6, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path, pixels):
    path = tmp_path / "images.bin"
    path.write_bytes(b"-" * OFFSET + pixels.tobytes() + b"-" * 99)
    return path


@pytest.fixture
def images(path, pixels):
    with open(path, "rb") as file:
        return HDF5Images(file, OFFSET, pixels.shape)


def test_it_has_the_shape_and_length_of_an_array(images):
    assert images.shape == (COUNT, 8, 6, 3)
    assert len(images) == COUNT


@pytest.mark.parametrize(
    "indices",
    [
        [0],
        [COUNT - 1],
        range(COUNT),
        range(COUNT - 1, -1, -1),
        [3, 4, 5, 1, 2, 9, 9, 10, 0],
        [],
        np.random.default_rng(1).permutation(COUNT),
    ],
    ids=["first", "last", "all", "backwards", "runs", "none", "random"],
)
def test_any_indices_give_what_an_array_gives(images, pixels, indices):
    indices = np.asarray(indices, dtype=np.int64)
    np.testing.assert_array_equal(images[indices], pixels[indices])


def test_consecutive_images_are_read_at_once(images, monkeypatch):
    reads = []

    def preadv(descriptor, buffers, offset):
        reads.append(offset)
        return real(descriptor, buffers, offset)

    real = os.preadv
    monkeypatch.setattr(os, "preadv", preadv)
    images[np.array([7, 8, 9, 2, 30, 31])]
    assert reads == [OFFSET + 144 * index for index in (7, 2, 30)]


def test_a_read_that_stops_short_goes_on(images, pixels, monkeypatch):
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda d, buffers, at: real(d, [buffers[0][:100]], at))
    np.testing.assert_array_equal(images[np.arange(5, 9)], pixels[5:9])


@pytest.mark.parametrize("index", [-1, COUNT])
def test_an_index_out_of_range_is_refused(images, index):
    with pytest.raises(IndexError, match="has images 0 to 49"):
        images[np.array([0, index])]


def test_a_file_that_was_cut_is_reported(images, path):
    os.truncate(path, OFFSET + 144 * 10 + 1)
    images[np.array([9])]
    with pytest.raises(UserError, match=r"images\.bin has become shorter since it was opened"):
        images[np.array([10])]


def test_a_file_that_was_replaced_is_still_the_old_one(images, path, pixels):
    (path.parent / "new").write_bytes(b"")
    os.replace(path.parent / "new", path)
    np.testing.assert_array_equal(images[np.arange(COUNT)], pixels)


def test_threads_may_read_at_the_same_time(images, pixels):
    def read(seed):
        indices = np.random.default_rng(seed).integers(0, COUNT, 20)
        return (images[indices] == pixels[indices]).all()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))


def test_forked_processes_may_read_at_the_same_time(images, pixels):
    def read(seed):
        indices = np.random.default_rng(seed).integers(0, COUNT, (200, 20))
        assert all((images[some] == pixels[some]).all() for some in indices)

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=read, args=(seed,)) for seed in range(3)]
    for process in processes:
        process.start()
    read(3)
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_memory_does_not_grow_with_what_was_read(tmp_path):
    count, size = 5000, 64 * 64 * 3
    path = tmp_path / "large.bin"
    path.touch()
    os.truncate(path, count * size)
    with open(path, "rb") as file:
        images = HDF5Images(file, 0, (count, 64, 64, 3))
    images[np.arange(100)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in range(0, count, 100):
        images[np.arange(start, start + 100)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < count * size / 10


def test_the_file_is_closed_with_the_last_reference(path, pixels):
    with open(path, "rb") as file:
        images = HDF5Images(file, OFFSET, pixels.shape)
    descriptor = images._descriptor
    os.fstat(descriptor)
    del images
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
