import re

import pytest

from benchmarks.photographs import CONTENDERS, OWN, Work
from pipeline.io.miniatures import write_photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """JPEGs of two classes, 64 in all."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 32)
    return folder


@pytest.mark.thorough
def test_it_prints_ours_beside_what_is_installed(run_python, folder):
    small = ("--size", 32, "--images", 64, "--repeats", 1)
    done = run_python("-m", "benchmarks.photographs", folder, *small)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^processor: .+ cores?\n\n\| work", done.stdout, re.MULTILINE)
    lines = [line.split(" | ") for line in done.stdout.splitlines() if "photographs" in line]
    peers = {line[2] for line in lines}
    assert {"cv2's decoding alone", "Keras's image_dataset_from_directory"} <= peers
    assert peers < CONTENDERS.keys()
    for line in lines:
        mine, theirs, ratio = (float(line[i].replace(",", "")) for i in (1, 3, 4))
        assert ratio == pytest.approx(mine / theirs, rel=0.05)


def test_our_batches_are_those_of_training(folder):
    files = sorted(str(path) for path in folder.glob("*/*.jpg"))
    batches = CONTENDERS[OWN][1](Work(folder, files, 32))
    assert [next(batches) for _ in range(3)] == [64] * 3


def test_a_folder_without_photographs_is_named(run_python, tmp_path):
    done = run_python("-m", "benchmarks.photographs", tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path} has 0 JPEGs in folders of classes: it takes 64\n"
