"""Photographs packed into HDF5 files: the same as in their folder, whole, and told when damaged."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from pipeline.backend.devices import Devices
from pipeline.errors import UserError
from pipeline.files.lock import lock
from pipeline.files.seal import sealed
from pipeline.io import photographpacking
from pipeline.io.miniatures import write_photographs
from pipeline.io.photographfolder import names_of_photographs, read_photograph_folder
from pipeline.io.photographpacking import pack_photographs
from pipeline.io.photographstore import PhotographStore, StorePart, store_text, tail
from pipeline.training.assembly import make_training
from pipeline.training.recipe import Recipe

SIZE = 48
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.1, crop_scale=0.35, flip="random")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Files of a few pictures each."""
    monkeypatch.setattr(photographpacking, "PART_BYTES", 30_000)


@pytest.fixture
def folder(tmp_path):
    """20 photographs of each of two classes, in a folder within a class as well."""
    write_photographs(tmp_path / "photographs", 20)
    below = tmp_path / "photographs" / "flower" / "below"
    below.mkdir()
    (tmp_path / "photographs" / "flower" / "003.jpg").rename(below / "003.jpg")
    return tmp_path / "photographs"


@pytest.fixture
def packed(folder, tmp_path):
    pack(folder, tmp_path / "packed")
    return tmp_path / "packed"


def pack(folder, target, **settings):
    pack_photographs(names_of_photographs(folder), target, **settings)
    return target


def parts(store):
    return sorted(store.glob("*.hdf5"))


def contents(store):
    return {path.name: path.read_bytes() for path in store.iterdir() if path.name != ".lock"}


def read(folder, **settings):
    return read_photograph_folder(str(folder), SIZE, **settings)


def divided(folder):
    for place in list(folder.iterdir()):
        for number, file in enumerate(sorted(place.rglob("*.jpg"))):
            split = "train" if number < 13 else "val" if number < 16 else "test"
            (folder / split / place.name).mkdir(parents=True, exist_ok=True)
            file.rename(folder / split / place.name / file.name)
        shutil.rmtree(place)
    return folder


# the same as the folder


def assert_alike(ours, theirs):
    assert ours.label_names == theirs.label_names
    assert ours.fingerprint == theirs.fingerprint
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    for part in ("train", "val"):
        labels = f"{part}_labels"
        np.testing.assert_array_equal(getattr(ours, labels), getattr(theirs, labels))
    for epoch in (0, 1):
        batches = [make_training(RECIPE, data, lambda images: images) for data in (ours, theirs)]
        for index in range(batches[0].steps_per_epoch):
            for a, b in zip(*(of.batch(epoch, index) for of in batches), strict=True):
                np.testing.assert_array_equal(a, b)
    for part in ("val", "test"):
        images = [getattr(data, f"{part}_images") for data in (ours, theirs)]
        if images[1] is not None:
            everything = np.arange(len(images[1]))
            np.testing.assert_array_equal(images[0][everything], images[1][everything])


@pytest.mark.parametrize("lay_out", [lambda folder: folder, divided])
def test_training_from_the_packed_pictures_is_training_from_the_folder(folder, tmp_path, lay_out):
    folder = lay_out(folder)
    store = pack(folder, tmp_path / "packed")
    assert len(parts(store)) > 3
    assert_alike(read(store), read(folder))


def test_a_process_makes_its_part_of_a_batch_as_it_would_from_the_folder(folder, packed):
    def parts(data):
        processes = [Devices(("CPU",) * 2, 2, process) for process in range(2)]
        made = [make_training(RECIPE, data, lambda x: x, devices=part) for part in processes]
        return [array for batches in made for array in batches.batch(0, 0)]

    for ours, theirs in zip(parts(read(packed)), parts(read(folder)), strict=True):
        assert len(ours) == RECIPE.batch_size // 2
        np.testing.assert_array_equal(ours, theirs)


def test_the_bytes_are_those_of_the_files(folder, packed):
    store = PhotographStore(packed)
    assert len(store.names) == 40
    assert "flower/below/003.jpg" in store.names
    for photograph, name in zip(
        store.photographs(store.names)[np.arange(40)], store.names, strict=True
    ):
        assert photograph.content() == (folder / name).read_bytes()


def test_what_is_wrong_with_the_pictures_is_told_as_of_the_folder(folder, tmp_path, capsys):
    shutil.copy(folder / "flower/001.jpg", folder / "temple/copy.jpg")
    store = pack(folder, tmp_path / "packed")
    capsys.readouterr()
    read(store)
    told = capsys.readouterr().out
    assert f"{store}: 2 classes, 33 pictures to train on, 8 to validate on, held out" in told
    assert "note: the same picture in two classes, one of which is wrong: 1, for example " in told
    with pytest.raises(UserError, match=r"40 of 41 pictures cannot be used|pictures cannot be"):
        read_photograph_folder(str(store), 4 * 160 + 1)


def test_names_may_be_of_any_bytes(folder, tmp_path):
    (folder / "flower/000.jpg").rename(folder / "flower" / os.fsdecode(b"\xff\xfe.jpg"))
    store = PhotographStore(pack(folder, tmp_path / "packed"))
    assert os.fsdecode(b"flower/\xff\xfe.jpg") in store.names


# made smaller


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "jpg"), ("RGB", "png"), ("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png")],
)
def test_larger_pictures_are_made_smaller_and_look_the_same(tmp_path, mode, suffix):
    red = np.zeros((200, 300, 3), np.uint8)
    red[:, :150, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the left is shown above
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        path = tmp_path / "pictures" / name / f"picture.{suffix}"
        Image.fromarray(red).convert(mode).save(path, exif=exif)
    pack(tmp_path / "pictures", tmp_path / "packed", short_side=64)
    store = PhotographStore(tmp_path / "packed")
    (picture,) = store.photographs([f"a/picture.{suffix}"])[np.arange(1)]
    assert (picture.width, picture.height) == (64, 96)
    image = picture.decode().astype(int)
    expected = cv2.cvtColor(np.uint8([[[255, 0, 0]]]), cv2.COLOR_RGB2GRAY)[0, 0]
    expected = [expected] * 3 if mode == "L" else [255, 0, 0]
    np.testing.assert_allclose(image[20, 32], expected, atol=4)
    np.testing.assert_allclose(image[80, 32], 0, atol=4)
    assert picture.content().startswith(b"\xff\xd8\xff")
    np.testing.assert_allclose(store.infos[store.names[0]].mean, image.mean((0, 1)), atol=2)


def test_pictures_that_are_small_enough_keep_their_bytes(folder, tmp_path):
    side = {name: min(cv2.imread(file).shape[:2]) for name, file in names_of(folder)}
    store = PhotographStore(pack(folder, tmp_path / "packed", short_side=100))
    sizes = set()
    for picture, name in zip(
        store.photographs(store.names)[np.arange(40)], store.names, strict=True
    ):
        assert (picture.content() == (folder / name).read_bytes()) == (side[name] <= 100)
        sizes.add(min(picture.width, picture.height))
    assert max(sizes) == 100


def names_of(folder):
    return names_of_photographs(folder).items()


# going on


def test_packing_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    straight = pack(folder, tmp_path / "straight")
    writer, count = photographpacking._PartWriter, 0

    class Killed(writer):
        def _complete(self, file):
            nonlocal count
            count += 1
            if count == 3:
                raise KeyboardInterrupt
            super()._complete(file)

    monkeypatch.setattr(photographpacking, "_PartWriter", Killed)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, tmp_path / "packed")
    left = {path: path.stat().st_ino for path in parts(tmp_path / "packed")}
    assert len(left) == 2
    with pytest.raises(UserError, match="packed is unfinished: start the build again"):
        read(tmp_path / "packed")
    looked_at = []
    examine_images = photographpacking.examine_images
    monkeypatch.setattr(
        photographpacking,
        "examine_images",
        lambda files, of: looked_at.extend(files) or examine_images(files, of),
    )
    pack(folder, tmp_path / "packed")
    assert 0 < len(looked_at) < 40
    assert {path: path.stat().st_ino for path in left} == left
    assert contents(tmp_path / "packed") == contents(straight)


def test_a_damaged_file_is_built_anew_as_the_message_says(folder, packed):
    before = contents(packed)
    damaged = parts(packed)[1]
    damaged.write_bytes(b"damaged")
    for remove in (packed / "store.json", damaged):
        with pytest.raises(UserError, match="remove this file and store"):
            pack(folder, packed)
        remove.unlink()
    pack(folder, packed)
    assert contents(packed) == before


def test_what_a_kill_has_left_goes(folder, packed):
    before = contents(unfinished(packed))
    (packed / ".pictures_00099.hdf5.tmp").touch()
    pack(folder, packed)
    assert contents(packed).keys() == before.keys() | {"store.json"}


def unfinished(store):
    (store / "store.json").unlink()
    return store


def test_what_has_changed_since_is_packed_anew(folder, packed):
    unfinished(packed)
    cv2.imwrite(str(folder / "flower/002.jpg"), np.zeros((70, 80, 3), np.uint8))
    (folder / "temple/007.jpg").unlink()
    write_photographs(folder / "more", 1)
    (folder / "more/temple/000.jpg").rename(folder / "flower/new.jpg")
    shutil.rmtree(folder / "more")
    pack(folder, packed)
    assert_alike(read(packed), read(folder))


def test_a_store_that_is_whole_stays_as_it_is(folder, packed):
    before = contents(packed)
    pack(folder, packed)
    assert contents(packed) == before
    shutil.copy(folder / "flower/002.jpg", folder / "flower/new.jpg")
    with pytest.raises(UserError, match="is complete already, with 40 of these 41 pictures"):
        pack(folder, packed)
    os.utime(folder / "flower/002.jpg")
    with pytest.raises(UserError, match="other pictures, or earlier versions of these: name an"):
        pack(folder, packed)
    assert contents(packed) == before


def test_pictures_of_another_folder_or_size_are_not_mixed_in(folder, packed, tmp_path):
    unfinished(packed)
    before = contents(packed)
    with pytest.raises(
        UserError, match=r"has pictures packed as they are: pack these alike, or into"
    ):
        pack(folder, packed, short_side=64)
    write_photographs(tmp_path / "others", 3)
    with pytest.raises(UserError, match="other pictures, or earlier versions of these: name an"):
        pack(tmp_path / "others", packed)
    assert contents(packed) == before


def test_one_process_packs_at_a_time(folder, packed):
    with lock(packed), pytest.raises(UserError, match="in use by another process"):
        pack(folder, packed)


# bad pictures


def test_bad_pictures_are_named_together_and_the_good_ones_are_kept(folder, tmp_path, capsys):
    for name in ("flower/bad.jpg", "temple/bad.jpg"):
        (folder / name).write_bytes((folder / "temple/000.jpg").read_bytes()[:500])
    (folder / "temple/nowhere.jpg").symlink_to("nothing")
    files = r"bad\.jpg, bad\.jpg, nowhere\.jpg"
    with pytest.raises(UserError, match=f"3 of 43 pictures cannot be used, {files}: mend"):
        pack(folder, tmp_path / "packed")
    assert capsys.readouterr().out.count("bad: ") == 3
    assert not (tmp_path / "packed" / "store.json").exists()
    kept = parts(tmp_path / "packed")
    pack(folder, tmp_path / "packed", skip_bad=True)
    assert "40 pictures, " in (printed := capsys.readouterr().out)
    assert "3 left out" in printed
    assert parts(tmp_path / "packed") == kept
    pack(folder, tmp_path / "packed", skip_bad=True)  # again
    assert capsys.readouterr().out == printed.splitlines()[-1] + "\n"
    assert len(read(tmp_path / "packed").train_images) == 32


def test_a_whole_store_gets_no_pictures_that_have_been_mended_or_added(folder, tmp_path):
    bad = folder / "flower/bad.jpg"
    bad.touch()
    pack(folder, tmp_path / "packed", skip_bad=True)
    another = "is complete already, with 40 of these 41 pictures: name another folder"
    shutil.copy(folder / "flower/001.jpg", bad)
    with pytest.raises(UserError, match=another):
        pack(folder, tmp_path / "packed")
    bad.rename(bad.with_name("new.jpg"))
    with pytest.raises(UserError, match=another):
        pack(folder, tmp_path / "packed")


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_of_bad_pictures_alone_does_not_vanish(folder, split, tmp_path):
    for path in (divided(folder) / split).rglob("*.jpg"):
        path.write_bytes(b"bad")
    with pytest.raises(UserError, match=f"no picture of {split} can be used"):
        pack(folder, tmp_path / "packed", skip_bad=True)


def test_bad_pictures_that_have_been_mended_come_in(folder, tmp_path):
    bad = folder / "flower/bad.jpg"
    bad.touch()
    with pytest.raises(UserError, match="1 of 41 pictures cannot be used"):
        pack(folder, tmp_path / "packed")
    shutil.copy(folder / "flower/001.jpg", bad)
    pack(folder, tmp_path / "packed")
    assert_alike(read(tmp_path / "packed"), read(folder))


def test_a_class_of_bad_pictures_alone_does_not_vanish(folder, tmp_path):
    for path in (folder / "temple").rglob("*.jpg"):
        path.write_bytes(b"bad")
    with pytest.raises(UserError, match="no picture of temple can be used"):
        pack(folder, tmp_path / "packed", skip_bad=True)
    assert not (tmp_path / "packed" / "store.json").exists()


def test_of_bad_pictures_alone_there_is_no_store(folder, tmp_path):
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no picture of flower, temple can be used"):
        pack(folder, tmp_path / "packed", skip_bad=True)
    assert contents(tmp_path / "packed") == {}


def test_a_picture_that_changes_while_it_is_packed_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(photographpacking, "read_image_file", lambda file: b"other")
    with pytest.raises(UserError, match=r"000.jpg has changed while it was packed: start again"):
        pack(folder, tmp_path / "packed")
    assert contents(tmp_path / "packed") == {}


def test_a_full_disk_is_named_and_what_was_whole_stays(folder, tmp_path, small_disk):
    straight = pack(folder, tmp_path / "straight")
    size = max(path.stat().st_size for path in parts(straight)[1:])
    with small_disk(size - 1), pytest.raises(UserError, match="hdf5 cannot be written: File too"):
        pack(folder, tmp_path / "packed")
    assert all(path.suffix == ".hdf5" for path in parts(tmp_path / "packed"))
    pack(folder, tmp_path / "packed")
    assert contents(tmp_path / "packed") == contents(straight)


# damage


def changed(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_every_byte_of_a_file_of_pictures_counts(packed):
    """In front of the pictures and behind them when it is opened; of a picture when it is read."""
    path = parts(packed)[1]
    whole = path.read_bytes()
    part = next(part for part in PhotographStore(packed)._parts if part.path == path)
    start, end = part._start, part._end
    for place in [*range(0, start, 37), *range(end, len(whole), 5)]:
        changed(path, place)
        with pytest.raises(UserError, match=re.escape(str(path))):
            PhotographStore(packed)
        path.write_bytes(whole)
    for place in range(start, end, 3001):
        changed(path, place)
        store = PhotographStore(packed)
        damaged = []
        for picture in store.photographs(store.names)[np.arange(len(store.names))]:
            try:
                picture.decode()
            except UserError as error:
                damaged.append(str(error))
        (problem,) = damaged
        assert re.fullmatch(
            rf"{path}, .*\.jpg is damaged: remove this file and store.json, .*", problem
        )
        path.write_bytes(whole)


@pytest.mark.parametrize("kept", [0, 10, 100, 3000, -1])
def test_a_truncated_file_of_pictures_is_refused(packed, kept):
    path = parts(packed)[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        UserError, match=rf"{path} cannot be used \(.*: remove this file and store.json"
    ):
        PhotographStore(packed)


def test_a_file_that_shrinks_while_it_is_read_is_named(packed):
    store = PhotographStore(packed)
    for path in parts(packed):
        os.truncate(path, 100)
    with pytest.raises(UserError, match="has become shorter since it was opened"):
        store.photographs(store.names)[np.arange(1)][0].content()


def test_missing_and_foreign_files_are_refused(folder, packed, tmp_path):
    first, second, *_ = parts(packed)
    content = second.read_bytes()
    second.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=rf"{second} is not of one build with {packed}/store.json"):
        PhotographStore(packed)
    second.unlink()
    with pytest.raises(UserError, match=rf"{second} cannot be used \(No such file"):
        PhotographStore(packed)
    second.write_bytes(content)
    assert_alike(read(packed), read(folder))


@pytest.mark.parametrize("text", ["", "{}", "[" * 9999, '{"parts": {}, "titles": {}}'])
def test_a_damaged_list_of_files_is_refused(packed, text):
    (packed / "store.json").write_text(text)
    with pytest.raises(UserError, match=r"store\.json is damaged: remove it and start"):
        PhotographStore(packed)


@pytest.mark.parametrize(
    "store",
    [
        *([], {}, {"parts": [], "titles": {}}, {"parts": {}, "titles": 1}),
        {"parts": {}, "titles": {}},
        {"parts": {"pictures_00001.hdf5": 1}, "titles": {}},
        {"parts": {}, "titles": {"flower": 1}},
        {"parts": {"../pictures_00001.hdf5": ""}, "titles": {}},
        {"parts": {"pictures_/../../a.hdf5": ""}, "titles": {}},
    ],
)
def test_a_forged_list_of_files_is_refused(packed, store):
    (packed / "store.json").write_bytes(sealed(json.dumps(store).encode()))
    with pytest.raises(UserError, match=r"store\.json is damaged: remove it and start"):
        PhotographStore(packed)


@pytest.mark.parametrize(
    ("column", "number"),
    [("place", -1), ("place", 2**62), ("bytes", 2**62), ("bytes", 2**31), ("place", 10**6)],
)
def test_a_forged_index_leads_nowhere(packed, column, number):
    forge_index(parts(packed)[0], column, number)
    with pytest.raises(UserError, match="its index leads out of it"):
        StorePart(parts(packed)[0])


def forge_index(path, column, value):
    """Changes the second picture's row in a file of pictures, and seals it again."""
    part = StorePart(path)
    with h5py.File(path, "r+") as file:
        rows = file["index"][:]
        rows[column][1] = value
        file["index"][:] = rows
    content = path.read_bytes()
    head = io.BytesIO(content[: part._start])
    path.write_bytes(content[: part._end] + tail(head, part._start))


def test_a_forged_name_that_has_no_class_is_refused(packed):
    forge_index(parts(packed)[0], "name", b"001.jpg")
    seals = {path.name: StorePart(path).seal.hex() for path in parts(packed)}
    (packed / "store.json").write_bytes(store_text(seals, {}))
    with pytest.raises(UserError, match="has a picture of no class: remove it and build it again"):
        PhotographStore(packed)


# memory

MEASURED = """
import os, resource, sys
from pathlib import Path

import cv2
import numpy as np

from pipeline.io import photographpacking
from pipeline.io.photographfolder import names_of_photographs, read_photograph_folder
from pipeline.io.photographpacking import pack_photographs

folder, target, room = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
cv2.setNumThreads(1)
os.cpu_count = lambda: 2  # threads that decode, each with a picture
held = int(Path("/proc/self/statm").read_text().split()[5]) * 4096
resource.setrlimit(resource.RLIMIT_DATA, (held + room, held + room))
pack_photographs(names_of_photographs(folder), target)
data = read_photograph_folder(str(target), 32)
for images in (data.train_images, data.val_images):
    for index in range(len(images)):
        images[np.array([index])]
"""


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """The process may take less than the store has."""
    side, rng = 2400, np.random.default_rng(0)
    noise = rng.integers(0, 256, (side, side, 3), np.uint8)
    for number in range(20):
        place = tmp_path / "pictures" / ("train", "val")[number % 2] / f"class_{number % 4 // 2}"
        place.mkdir(parents=True, exist_ok=True)
        noise[0, 0] = number
        cv2.imwrite(str(place / f"{number}.bmp"), noise)
    total = 20 * side * side * 3
    room = total * 3 // 4
    command = [sys.executable, "-c", MEASURED, tmp_path / "pictures", tmp_path / "packed", room]
    done = subprocess.run(
        [*map(str, command)], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sum(path.stat().st_size for path in parts(tmp_path / "packed")) > total
