import gzip
import hashlib
import io
import os
import pickle
import re
import shutil
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest
import specialfiles
from matplotlib.image import imsave

from pipeline.errors import BadImages, UserError
from pipeline.io import cifar10
from pipeline.io.cifar10 import read_cifar10

BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
FILES = [*BATCHES, "test_batch"]
NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


@pytest.fixture(scope="module")
def images():
    """Images by file name, the classes in order as in a folder: 10 training images, 10 of test."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(10)
    batches = {
        name: (pixels[2 * i : 2 * i + 2], labels[2 * i : 2 * i + 2])
        for i, name in enumerate(BATCHES)
    }
    return batches | {"test_batch": (pixels[10:], labels)}


def rows(pixels):
    """Images as CIFAR-10 stores them: one row each, all red values before green before blue."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)


def by_python_3(protocol):
    def dump(pixels, labels):
        batch = {b"batch_label": b"one", b"labels": labels.tolist(), b"data": rows(pixels)}
        return pickle.dumps(batch | {b"filenames": [b"x.png"] * len(labels)}, protocol)

    return dump


def by_python_2(pixels, labels):
    """The pickle that Python 2 and its NumPy wrote, as in the original archive."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def integer(value):
        return b"J" + struct.pack("<i", value)

    data = rows(pixels)
    array_class = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + integer(0) + integer(1) + b"\x87R"
    dtype += (
        b"(" + integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    )
    content = b"T" + struct.pack("<i", data.nbytes) + data.tobytes()
    shape = integer(data.shape[0]) + integer(data.shape[1]) + b"\x86"
    array = array_class + integer(0) + b"\x85" + text(b"b") + b"\x87R"
    array += b"(" + integer(1) + shape + dtype + b"\x89" + content + b"tb"
    numbers = b"](" + b"".join(map(integer, labels)) + b"e"
    return b"\x80\x02}(" + text(b"labels") + numbers + text(b"data") + array + b"u."


@pytest.fixture
def write_folder(tmp_path, images, monkeypatch):
    """Writes the extracted archive, and has its files pass for the original ones."""

    def write(dump):
        path = tmp_path / "cifar-10-batches-py"
        path.mkdir()
        contents = {name: dump(*batch) for name, batch in images.items()}
        for name, content in contents.items():
            (path / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        assert digests.keys() == cifar10.BATCHES_SHA256.keys()
        monkeypatch.setattr(cifar10, "BATCHES_SHA256", digests)
        return path

    return write


@pytest.fixture
def folder(write_folder):
    return write_folder(by_python_2)


@pytest.fixture
def png_folder(tmp_path, images):
    """The same images as PNG files, written in RGB order by another library than reads them."""
    root = tmp_path / "png"
    number = 0
    for file, (pixels, labels) in images.items():
        for image, label in zip(pixels, labels, strict=True):
            place = root / ("test" if file == "test_batch" else "train") / NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            imsave(place / f"{number:03}.png", image)
            number += 1
    return root


def pack(folder, path, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        archive.add(folder, arcname="cifar-10-batches-py")
    return path


def assert_is(data, images):
    train = [images[name] for name in BATCHES]
    expected = (
        np.concatenate([pixels for pixels, _ in train]),
        np.concatenate([labels for _, labels in train]),
        *images["test_batch"],
    )
    arrays = (data.train_images, data.train_labels, data.val_images, data.val_labels)
    for ours, theirs in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert data.label_names == tuple(NAMES)
    assert data.train_images.dtype == data.val_images.dtype == np.uint8
    assert data.train_labels.dtype == data.val_labels.dtype == np.int32
    assert data.train_images.flags.c_contiguous
    assert data.val_images.flags.c_contiguous


# every form gives the same arrays


@pytest.mark.parametrize(
    "dump",
    [by_python_2, by_python_3(2), by_python_3(4)],
    ids=["original", "protocol 2", "protocol 4"],
)
def test_the_extracted_folder(write_folder, images, dump, recwarn):
    assert_is(read_cifar10(str(write_folder(dump))), images)
    assert not list(recwarn)


@pytest.mark.parametrize("mode", ["w:gz", "w", "w:xz"])
def test_the_archive(folder, images, tmp_path, mode):
    assert_is(read_cifar10(str(pack(folder, tmp_path / "cifar-10-python.tar.gz", mode))), images)


def test_a_folder_of_pictures(png_folder, images):
    assert_is(read_cifar10(str(png_folder)), images)


def test_the_folder_around_the_extracted_one(folder, images):
    assert_is(read_cifar10(str(folder.parent)), images)


def test_without_a_path_keras_cache_is_used(folder, images, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    target = tmp_path / "home" / "datasets" / "cifar-10-batches-py-target"
    target.mkdir(parents=True)
    folder.rename(target / "cifar-10-batches-py")
    assert_is(read_cifar10(), images)


def test_colours_are_red_green_blue(png_folder):
    red = np.zeros((32, 32, 3), dtype=np.uint8)
    red[..., 0] = 255
    imsave(png_folder / "train" / "airplane" / "000.png", red)
    np.testing.assert_array_equal(read_cifar10(str(png_folder)).train_images[0], red)


@pytest.mark.slow
@pytest.mark.needs("cifar10")
def test_the_real_images(real_cifar10):
    data = read_cifar10(str(real_cifar10))
    assert data.label_names == tuple(NAMES)
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.val_images.shape == (10_000, 32, 32, 3)
    assert np.bincount(data.train_labels).tolist() == [5000] * 10
    mean = data.train_images.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, [125.31, 122.95, 113.87], atol=0.01)


# a folder of pictures


def test_classes_are_numbered_in_alphabetical_order(png_folder):
    (png_folder / "train" / "airplane").rename(png_folder / "train" / "zeppelin")
    (png_folder / "test" / "airplane").rename(png_folder / "test" / "zeppelin")
    data = read_cifar10(str(png_folder))
    assert data.label_names == (*NAMES[1:], "zeppelin")
    assert data.train_labels.tolist() == list(range(10))


def test_what_is_no_class_or_no_picture_is_passed_over(png_folder, images):
    picture = png_folder / "train" / "cat" / "003.png"
    (png_folder / "train" / ".cache").mkdir()
    for stray in (".cache/a.png", "beside.png", "readme.txt", "cat/notes.txt"):
        shutil.copy(picture, png_folder / "train" / stray)
    assert_is(read_cifar10(str(png_folder)), images)


def remove(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def fill_with_text(path):
    path.write_text("this is not what you think")


@pytest.fixture
def complaint(png_folder, capsys):
    """Reads the folder, which has one picture that cannot be used; returns what is said of it."""

    def complaint():
        with pytest.raises(BadImages, match=r"1 of \d+ pictures cannot be used, .*: mend"):
            read_cifar10(str(png_folder))
        return capsys.readouterr().out

    return complaint


@pytest.mark.parametrize("damage", [cut, empty, fill_with_text])
def test_a_damaged_picture_is_named_and_left_out_if_asked_for(png_folder, complaint, damage):
    picture = png_folder / "train" / "frog" / "006.png"
    shutil.copy(picture, picture.with_name("007.png"))
    damage(picture)
    said = rf"bad: {picture} is (truncated, damaged or not an image|empty)\n"
    assert re.fullmatch(said, complaint())
    assert len(read_cifar10(str(png_folder), skip_bad=True).train_images) == 10


def test_a_truncated_jpeg_is_not_filled_up_with_gray(png_folder, complaint):
    picture = png_folder / "train" / "frog" / "photo.jpg"
    imsave(picture, np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    cut(picture)
    assert complaint() == f"bad: {picture} is truncated, damaged or not an image\n"


def test_hidden_files_beside_the_pictures_are_passed_over(png_folder):
    before = read_cifar10(str(png_folder))
    (png_folder / "train" / "frog" / "._006.png").write_bytes(b"Mac OS X")
    after = read_cifar10(str(png_folder))
    np.testing.assert_array_equal(after.train_images, before.train_images)


def test_a_picture_of_another_size_is_named(png_folder, complaint):
    picture = png_folder / "test" / "dog" / "big.png"
    imsave(picture, np.zeros((64, 48, 3), dtype=np.uint8))
    assert complaint() == f"bad: {picture} has 48x64 pixels instead of 32x32\n"


def test_a_test_class_without_training_images_is_named(png_folder):
    (png_folder / "test" / "unicorn").mkdir()
    with pytest.raises(UserError, match=r"test has classes that train lacks: unicorn"):
        read_cifar10(str(png_folder))


def test_folders_without_classes_or_pictures(png_folder):
    for picture in png_folder.rglob("test/*/*.png"):
        picture.unlink()
    with pytest.raises(UserError, match="test has no pictures in folders of classes"):
        read_cifar10(str(png_folder))
    shutil.rmtree(png_folder / "train")
    (png_folder / "train").mkdir()
    with pytest.raises(
        UserError, match="train has fewer than two folders of classes: it must have"
    ):
        read_cifar10(str(png_folder))


# damage to the pickles


@pytest.mark.parametrize("damage", [cut, empty, fill_with_text])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_a_damaged_batch_is_named(folder, name, damage):
    damage(folder / name)
    with pytest.raises(UserError, match=f"{folder}: {name} is not that of CIFAR-10's authors"):
        read_cifar10(str(folder))


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch"])
def test_a_missing_batch_is_named(folder, tmp_path, name):
    remove(folder / name)
    with pytest.raises(UserError, match=f"{folder}: {name} is missing"):
        read_cifar10(str(folder))
    archive = pack(folder, tmp_path / "a.tar.gz")
    with pytest.raises(UserError, match=f"{archive}: {name} is missing"):
        read_cifar10(str(archive))


def test_a_batch_that_was_pickled_anew_is_refused_with_the_ways_out(folder, images):
    (folder / "data_batch_2").write_bytes(by_python_3(4)(*images["data_batch_2"]))
    with pytest.raises(UserError, match="data_batch_2 is not that of") as refusal:
        read_cifar10(str(folder))
    assert "pickled anew" in str(refusal.value)
    assert "archive cifar-10-python.tar.gz" in str(refusal.value)
    assert "train/<class>/*.png" in str(refusal.value)


class Calls:
    """Pickled as a call of a function, which unpickling makes."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("name", FILES)
def test_nothing_in_a_hostile_pickle_is_called(folder, tmp_path, name):
    hostile = pickle.dumps(Calls(os.mkdir, str(tmp_path / "witness")))
    (folder / name).write_bytes(hostile)
    with pytest.raises(UserError, match=f"{name} is not that of CIFAR-10's authors"):
        read_cifar10(str(folder))
    archive = pack(folder, tmp_path / "a.tar.gz")
    with pytest.raises(UserError, match=f"{name} is not that of CIFAR-10's authors"):
        read_cifar10(str(archive))
    assert sorted(tmp_path.iterdir()) == [archive, folder]
    pickle.loads(hostile)  # it would have been, no doubt
    assert (tmp_path / "witness").is_dir()


def test_the_files_that_are_unpickled_are_none_but_those_of_the_authors():
    """Their MD5 are in torchvision's cifar.py; their SHA-256 stand in many a repository."""
    digests = cifar10.BATCHES_SHA256
    assert list(digests) == [*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests.values())


BEHIND = [specialfiles.sparse, *specialfiles.SPECIAL]


@pytest.mark.parametrize("put", BEHIND, ids=lambda put: put.__name__)
def test_what_is_no_file_of_that_size_is_refused_at_once(folder, tmp_path, put):
    (folder / "data_batch_1").unlink()
    put(folder / "data_batch_1")
    with specialfiles.at_once(), pytest.raises(UserError, match="data_batch_1"):
        read_cifar10(str(folder))
    if put not in (specialfiles.folder, specialfiles.link_to_itself):
        put(tmp_path / "data")
        with specialfiles.at_once(), pytest.raises(UserError, match=f"{tmp_path}/data"):
            read_cifar10(str(tmp_path / "data"))


# damaged and hostile archives


def test_a_damaged_archive_is_refused_wherever_the_damage_is(folder, tmp_path):
    """Behind gzip's header, whose time stamp and the like may be anything."""
    whole = pack(folder, tmp_path / "a.tar.gz").read_bytes()
    damaged = tmp_path / "damaged.tar.gz"
    for offset in [*np.random.default_rng(0).integers(30, len(whole), 60), *range(-8, 0)]:
        content = bytearray(whole)
        content[offset] ^= 0x55
        damaged.write_bytes(content)
        with pytest.raises(UserError, match=str(damaged)):
            read_cifar10(str(damaged))


def test_a_cut_archive_is_refused(folder, tmp_path):
    whole = pack(folder, tmp_path / "a.tar.gz").read_bytes()
    for length in (0, 1, 20, 600, len(whole) // 2, len(whole) - 9):
        (tmp_path / "a.tar.gz").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"a\.tar\.gz"):
            read_cifar10(str(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_in_an_archive_is_not_followed(folder, images, tmp_path, kind):
    outside = tmp_path / "outside"
    outside.write_bytes(by_python_2(*images["data_batch_1"]))
    remove(folder / "data_batch_1")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder, arcname="cifar-10-batches-py")
        link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        link.type, link.linkname = kind, str(outside)
        archive.addfile(link)
    with pytest.raises(UserError, match=r"data_batch_1 is not a plain file"):
        read_cifar10(str(tmp_path / "a.tar"))


def test_an_archive_writes_nothing_wherever_its_members_point(folder, images, tmp_path):
    archive_path = pack(folder, tmp_path / "a.tar", "w")
    with tarfile.open(archive_path, "a") as archive:
        for name in ("../witness", str(tmp_path / "witness"), "cifar-10-batches-py/../witness"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    before = sorted(tmp_path.rglob("*"))
    assert_is(read_cifar10(str(archive_path)), images)
    assert sorted(tmp_path.rglob("*")) == before


def hostile_header(name, size, kind):
    """A member that claims a size and is followed by zeros."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (hostile_header("x", 2 * 10**9, tarfile.XHDTYPE), "a header in it has"),
        (hostile_header("x", 2 * 10**9, tarfile.GNUTYPE_LONGNAME), "a header in it has"),
        (hostile_header("x", -(10**6), tarfile.XHDTYPE), None),
        (hostile_header("x", -512, tarfile.REGTYPE), None),
        (hostile_header("cifar-10-batches-py/data_batch_1", 10**11, tarfile.REGTYPE), "more than"),
        (hostile_header("x", 0, tarfile.REGTYPE) * 10**5, "more than 100 files"),
    ],
    ids=["pax", "long name", "negative pax", "negative size", "100 GB", "many"],
)
def test_an_archive_that_unpacks_to_gigabytes_takes_neither_memory_nor_time(
    tmp_path, header, message
):
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(300):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        with specialfiles.at_once(), pytest.raises(UserError, match=message):
            read_cifar10(str(path))
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


# missing data


def test_a_path_that_leads_nowhere_is_named_with_what_would_do(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/no: there is no such file or folder"):
        read_cifar10(str(tmp_path / "no"))
    message = "it holds no data set; give the folder cifar-10-batches-py"
    with pytest.raises(UserError, match=message):
        read_cifar10(str(tmp_path))


@pytest.mark.thorough
def test_a_failing_download_ends_in_one_paragraph_with_the_ways_out(run_python, tmp_path):
    read = (
        "from pipeline.command_line import script; "
        "from pipeline.io.cifar10 import read_cifar10 as read"
    )
    nowhere = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    nowhere["KERAS_BACKEND"] = "numpy"  # the one that is imported fastest
    result = run_python("-c", f"{read}; script.run(read)", **nowhere)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("error: CIFAR-10 could not be downloaded from https://www.cs.toronto")
    assert str(tmp_path / "datasets") in message
    assert "name a local copy as the data" in message
    assert "train on the digits data set" in message
