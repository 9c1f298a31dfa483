import os
import signal
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from resealed import reseal

from pipeline.errors import UserError
from pipeline.files.seal import SEAL_BYTES
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter

NAMES = (("n1", "cat, Kätzchen"), ("n2", "dog"))
COUNT = 25
DIMS = (COUNT, 8, 8, 3)


@pytest.fixture
def photos():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, DIMS, dtype=np.uint8), rng.integers(0, 2, COUNT)


def write(path, images, labels, step=10, **settings):
    with HDF5DatasetWriter(DIMS, path, NAMES, **settings) as writer:
        for start in range(0, len(images), step):
            writer.add(images[start : start + step], labels[start : start + step])


@pytest.mark.parametrize("step", [1, 10, COUNT])
def test_what_is_added_piece_by_piece_is_what_h5py_reads(tmp_path, photos, step):
    write(tmp_path / "a.hdf5", *photos, step=step)
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file["images"].dtype == np.uint8
        np.testing.assert_array_equal(file["images"], photos[0])
        assert file["labels"].dtype == np.int32
        np.testing.assert_array_equal(file["labels"], photos[1])
        assert file["label_names"].asstr()[:].tolist() == [list(pair) for pair in NAMES]
        assert file.attrs["complete"]


def test_images_lie_in_one_piece_at_the_end_of_the_file_before_the_seal(tmp_path, photos):
    write(tmp_path / "a.hdf5", *photos)
    with h5py.File(tmp_path / "a.hdf5") as file:
        offset = file["images"].id.get_offset()
    assert (tmp_path / "a.hdf5").read_bytes()[offset:-SEAL_BYTES] == photos[0].tobytes()
    assert offset < 5000


def test_images_may_lie_anywhere_in_memory(tmp_path, photos):
    images, labels = photos
    write(tmp_path / "a.hdf5", np.asfortranarray(images), labels)
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(file["images"], images)


def test_until_the_end_there_is_no_file_of_that_name_and_no_hdf5_file_at_all(tmp_path, photos):
    with HDF5DatasetWriter(DIMS, tmp_path / "a.hdf5", NAMES) as writer:
        writer.add(*photos)
        writer._stream.file.flush()
        assert os.listdir(tmp_path) == [".a.hdf5.tmp"]
        assert not h5py.is_hdf5(tmp_path / ".a.hdf5.tmp")
    assert os.listdir(tmp_path) == ["a.hdf5"]


def test_the_whole_file_is_on_disk_before_its_name(tmp_path, photos, steps):
    write(tmp_path / "a.hdf5", *photos)
    assert steps == [
        ("fsync", ".a.hdf5.tmp"),
        ("replace", ".a.hdf5.tmp", "a.hdf5"),
        ("fsync", tmp_path.name),
    ]


def test_an_exception_leaves_nothing(tmp_path, photos):
    def interrupted():
        with HDF5DatasetWriter(DIMS, tmp_path / "a.hdf5", NAMES) as writer:
            writer.add(*photos)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_missing_rows_leave_nothing(tmp_path, photos):
    images, labels = photos
    with pytest.raises(ValueError, match=r"a\.hdf5 got 24 of its 25 rows"):
        write(tmp_path / "a.hdf5", images[:-1], labels[:-1])
    assert os.listdir(tmp_path) == []


def test_a_kill_leaves_nothing_but_what_the_next_writer_overwrites(tmp_path, photos):
    code = f"""
        import os, signal, numpy as np
        from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter
        with HDF5DatasetWriter({DIMS}, "{tmp_path}/a.hdf5", {NAMES}) as writer:
            writer.add(np.zeros({DIMS}, np.uint8), np.zeros({COUNT}, int))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [".a.hdf5.tmp"]
    write(tmp_path / "a.hdf5", *photos)
    assert os.listdir(tmp_path) == ["a.hdf5"]


def test_an_existing_file_is_refused_and_stays(tmp_path, photos):
    (tmp_path / "a.hdf5").write_text("precious")
    with pytest.raises(UserError, match=r"a\.hdf5 exists already"):
        write(tmp_path / "a.hdf5", *photos)
    assert (tmp_path / "a.hdf5").read_text() == "precious"
    assert os.listdir(tmp_path) == ["a.hdf5"]


@pytest.mark.parametrize("limit", [100, 3000, 6000])
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, limit):
    # A limit on the size of files stands in for the disk: writing fails in the same place.
    code = f"""
        import resource, numpy as np
        from pipeline.errors import UserError
        from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
        try:
            with HDF5DatasetWriter({DIMS}, "{tmp_path}/a.hdf5", {NAMES}) as writer:
                writer.add(np.zeros({DIMS}, np.uint8), np.zeros({COUNT}, int))
        except UserError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/a.hdf5 cannot be written: File too large\n"
    assert os.listdir(tmp_path) == []


def test_a_folder_that_does_not_exist_is_named(tmp_path, photos):
    with pytest.raises(UserError, match=r"nowhere/a\.hdf5 cannot be written: No such file"):
        write(tmp_path / "nowhere" / "a.hdf5", *photos)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8, 3)), [0, 0], "takes uint8 images of .8, 8, 3.: got float64"),
        (np.zeros((2, 8, 9, 3), np.uint8), [0, 0], r"got uint8 of \(8, 9, 3\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0], "2 images need as many labels below 2"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, 2], "as many labels below 2"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, -1], "as many labels below 2"),
        (np.zeros((26, 8, 8, 3), np.uint8), [0] * 26, "has 25 rows: got 26"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, images, labels, message):
    with (
        pytest.raises(ValueError, match=message),
        HDF5DatasetWriter(DIMS, tmp_path / "a.hdf5", NAMES) as writer,
    ):
        writer.add(images, labels)


def test_a_link_in_the_temporary_files_place_is_not_followed(tmp_path, photos):
    (tmp_path / "precious").write_text("results")
    (tmp_path / ".a.hdf5.tmp").symlink_to("precious")
    write(tmp_path / "a.hdf5", *photos)
    assert (tmp_path / "precious").read_text() == "results"
    assert not (tmp_path / "a.hdf5").is_symlink()


@pytest.mark.parametrize("labels", [[0.9], ["1"], [None], [True]])
def test_labels_that_are_no_whole_numbers_are_not_made_into_some(tmp_path, photos, labels):
    with (
        pytest.raises(ValueError, match="takes whole numbers as labels"),
        HDF5DatasetWriter(DIMS, tmp_path / "a.hdf5", NAMES) as writer,
    ):
        writer.add(photos[0][:1], labels)


@pytest.mark.parametrize(
    ("mean", "texts", "message"),
    [
        ([1.0, 2.0, np.nan], (b"a", b"x"), "its mean is"),
        ([1.0, 2.0], (b"a", b"x"), "its mean is"),
        ([1, 2, 3], (b"a", b"x"), "its mean is"),
        ([1.0, 2.0, 3.0], (b"a",), "build"),
        ([1.0, 2.0, 3.0], (b"b", b"x"), "holds the images of b.hdf5"),
    ],
)
def test_an_origin_that_is_none_is_refused(tmp_path, photos, mean, texts, message):
    write(tmp_path / "a.hdf5", *photos)

    def change(file):
        file["mean"] = mean
        file.attrs["origin"] = np.array(texts)

    reseal(tmp_path / "a.hdf5", change)
    with pytest.raises(UserError, match=message):
        HDF5DatasetGenerator(tmp_path / "a.hdf5")
