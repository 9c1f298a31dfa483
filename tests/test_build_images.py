"""build_images.py as a user runs it, killed and out of disk; and training on what it has made."""

import itertools
import resource
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from forkedscript import finish, start
from processes import interrupted, refused, run
from storm import slow_disk

pytestmark = pytest.mark.thorough

SCRIPT, TRAIN = "build_images.py", "train_images.py"
TINY = ["--size", 32, "--stages", 1, 1, "--filters", 8, 16, 32, "--batch-size", 8]
PART_BYTES = 20_000


@pytest.fixture(scope="module")
def packed(photograph_folder, tmp_path_factory):
    """The folder, packed by a process that nobody disturbed."""
    target, log = tmp_path_factory.mktemp("packed") / "packed", tmp_path_factory.mktemp("log")
    assert finish(build(photograph_folder, target, log / "log")) == 0
    assert "120 pictures, " in (log / "log").read_text()
    return target


def small_parts(first=None):
    """Lets this process make many files of a few pictures each."""
    from pipeline.io import photographpacking

    photographpacking.PART_BYTES = PART_BYTES
    if first:
        first()


def build(photograph_folder, target, log, *options, first=None):
    arguments = ["--images", photograph_folder, "--hdf5", target, *options]
    return start(SCRIPT, *arguments, log=log, first=partial(small_parts, first))


def contents(target):
    files = target.iterdir() if target.is_dir() else ()
    return {path.name: path.read_bytes() for path in files if path.name != ".lock"}


def visible(target):
    """The same without what is only being written, and may be gone when it is to be read."""
    return {path.name: path.read_bytes() for path in target.glob("[!.]*")}


# interruptions


def test_packing_killed_again_and_again_ends_as_if_nothing_had_been(
    photograph_folder, packed, tmp_path
):
    straight, rng = contents(packed), np.random.default_rng(0)
    assert len(straight) > 10
    target, reached = tmp_path / "packed", []
    for _ in range(8):
        process = build(photograph_folder, target, tmp_path / "log", first=slow_disk)
        while process.exitcode is None and len(visible(target)) <= len(reached):
            time.sleep(0.001)  # so that each gets ahead of the one before
        process.join(timeout=rng.uniform(0, 0.05))
        process.kill()
        assert finish(process) in (0, -signal.SIGKILL)
        left = visible(target)
        assert left == {name: straight[name] for name in left}
        assert set(contents(target)) - set(left) <= {
            f".{name}.tmp" for name in straight
        }  # which the next start overwrites
        reached = left
    assert len(reached) >= 8
    assert finish(build(photograph_folder, target, tmp_path / "log")) == 0
    assert contents(target) == straight


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_packing_interrupted_goes_on(photograph_folder, packed, tmp_path, number):
    from signalled import signal_before

    target = tmp_path / "packed"
    first = partial(signal_before, "os.rename", "pictures_00004.hdf5", number)
    process = build(photograph_folder, target, tmp_path / "log", first=first)
    assert finish(process) in (-number, 128 + number)
    assert len(visible(target)) == 3
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert finish(build(photograph_folder, target, tmp_path / "log")) == 0
    assert contents(target) == contents(packed)


def full_disk(room):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


def test_a_full_disk_is_named_in_one_line_and_with_room_again_it_goes_on(
    photograph_folder, packed, tmp_path
):
    sizes = [len(of) for name, of in sorted(contents(packed).items()) if name.endswith(".hdf5")]
    larger = next(i for i in itertools.count(1) if sizes[i] > max(sizes[:i]))
    target, log = tmp_path / "packed", tmp_path / "log"
    first = partial(full_disk, sizes[larger] - 1)
    assert finish(build(photograph_folder, target, log, first=first)) == 2
    complaint = log.read_text().splitlines()[-1]
    expected = f"pictures_{larger + 1:05}.hdf5 cannot be written: File too large"
    assert complaint == f"error: {target}/{expected}"
    assert len(contents(target)) == larger
    assert finish(build(photograph_folder, target, log)) == 0
    assert contents(target) == contents(packed)


def test_a_list_of_files_that_finds_no_room_is_named(photograph_folder, packed, tmp_path):
    target, log = tmp_path / "packed", tmp_path / "log"
    shutil.copytree(packed, target)
    (target / "store.json").unlink()
    room = (packed / "store.json").stat().st_size - 1
    assert finish(build(photograph_folder, target, log, first=partial(full_disk, room))) == 2
    assert f"error: {target}/store.json: File too large" in log.read_text()
    assert finish(build(photograph_folder, target, log)) == 0
    assert contents(target) == contents(packed)


# training


def test_a_run_on_packed_pictures_is_the_one_on_the_folder_killed_or_not(
    photograph_folder, packed, tmp_path
):
    options = [*TINY, "--epochs", 3, "--every", 1]
    run(TRAIN, "--images", photograph_folder, *options, "-o", tmp_path / "of_folder")
    printed = interrupted(
        TRAIN,
        "--images",
        packed,
        *options,
        "-o",
        tmp_path / "packed",
        epoch=2,
        number=signal.SIGINT,
    )
    assert f"{packed}: 2 classes, 96 pictures to train on, 24 to validate on" in printed
    interrupted(TRAIN, "-o", tmp_path / "packed", "--resume", epoch=3, number=signal.SIGKILL)
    rng = np.random.default_rng(0)
    for _ in range(3):
        again = ["-o", tmp_path / "packed", "--resume"]
        process = start(TRAIN, *again, log=tmp_path / "log", first=slow_disk)
        process.join(timeout=rng.uniform(0, 5))
        process.kill()
        assert finish(process) in (0, -signal.SIGKILL)
    assert "note: the pictures" not in run(TRAIN, "-o", tmp_path / "packed", "--resume")
    models = [tmp_path / of / "resnet_images.hdf5" for of in ("of_folder", "packed")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_a_run_on_unfinished_or_damaged_files_takes_one_line(photograph_folder, packed, tmp_path):
    target = shutil.copytree(packed, tmp_path / "packed")
    options = [TRAIN, "--images", target, *TINY, "--epochs", 1, "-o", tmp_path / "output"]
    part = target / "pictures_00002.hdf5"
    content = bytearray(part.read_bytes())
    content[-1000] ^= 1
    part.write_bytes(content)
    assert ".jpg is damaged: remove this file and store.json, and start" in refused(*options)
    (target / "store.json").unlink()
    assert f"{target} is unfinished: start the build again" in refused(*options)


# wrong input


def test_wrong_input_takes_one_line(photograph_folder, tmp_path):
    nowhere = ["--hdf5", tmp_path / "packed"]
    assert "nowhere: there is no such folder" in refused(SCRIPT, "--images", "nowhere", *nowhere)
    complaint = refused(SCRIPT, "--images", "docs", *nowhere)
    assert "docs has fewer than two folders of classes" in complaint
    assert "--short-side: 0 is below 1" in refused(
        SCRIPT, "--images", photograph_folder, *nowhere, "--short-side", 0
    )
    assert "would lie among the classes: name a folder elsewhere" in refused(
        SCRIPT, "--images", photograph_folder, "--hdf5", photograph_folder / "packed"
    )
    assert not (tmp_path / "packed").exists()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "loop"):
        assert f"{name} is not a folder: choose another" in refused(
            SCRIPT, "--images", photograph_folder, "--hdf5", tmp_path / name
        )


def test_larger_pictures_are_made_smaller_if_asked_to(photograph_folder, tmp_path):
    small = tmp_path / "small"
    printed = run(SCRIPT, "--images", photograph_folder, "--hdf5", small, "--short-side", 70)
    assert "120 pictures, " in printed
    run(TRAIN, "--images", small, *TINY, "--epochs", 1, "-o", tmp_path / "output")
    size = sum(path.stat().st_size for path in small.iterdir())
    assert size < sum(path.stat().st_size for path in Path(photograph_folder).rglob("*.jpg"))
