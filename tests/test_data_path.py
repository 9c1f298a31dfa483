import re

import numpy as np
import pytest

from benchmarks import original
from pipeline.batches import EvaluationBatches
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.io.tiny_imagenet import Split, write_split
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor


@pytest.mark.thorough
def test_it_prints_both_ways_side_by_side(run_python, miniatures):
    small = ("--images", 128, "--repeats", 1)
    done = run_python("-m", "benchmarks.data_path", miniatures, *small)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^processor: .+ cores?\n\n\| work", done.stdout, re.MULTILINE)
    rows = [line.split(" | ") for line in done.stdout.splitlines() if "original" in line]
    assert len(rows) == 5
    (size,) = (row for row in rows if "bytes an image" in row[0])
    assert size[2:5] == ["the original's way", "98,328", "0.13"]
    assert 64 * 64 * 3 < int(size[1].replace(",", "")) < 12_700
    for row in rows:
        ours, theirs = (float(cell.replace(",", "")) for cell in (row[1], row[3]))
        assert float(row[4]) == pytest.approx(ours / theirs, rel=0.05)


def test_a_folder_without_the_data_is_named(run_python, tmp_path):
    done = run_python("-m", "benchmarks.data_path", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/cifar10: there is no such folder")


def test_the_stand_in_makes_the_same_batches_but_for_the_order_of_the_channels(
    tiny_imagenet_sample, tmp_path
):
    files = [str(path) for path in tiny_imagenet_sample.glob("train/n10000042/images/*.JPEG")]
    split = Split(files, np.arange(len(files)) % 2)
    names = (("n1", "even"), ("n2", "odd"))

    blue_green_red = original.build(*split, tmp_path / "original.hdf5")
    red_green_blue = write_split(split, tmp_path / "ours.hdf5", 64, names)
    np.testing.assert_allclose(blue_green_red[::-1], red_green_blue)

    theirs = original.hdf5_batches(tmp_path / "original.hdf5", blue_green_red, 2, 4)
    data = HDF5DatasetGenerator(tmp_path / "ours.hdf5")
    preprocess = MeanPreprocessor(red_green_blue).preprocess
    ours = EvaluationBatches(data.images, data.labels, 4, preprocess)
    for (images, one_hot), index in zip(theirs, range(ours.num_batches), strict=True):
        our_images, labels = ours[index]
        np.testing.assert_allclose(images[..., ::-1], our_images, atol=1e-4)
        np.testing.assert_array_equal(one_hot.argmax(axis=1), labels)
