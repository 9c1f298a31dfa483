"""Tiny ImageNet from JPEGs to rank-5, through all of its scripts."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT, refused, run

from pipeline.files.modelfile import load_model, read_checkpoint
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter, Origin

pytestmark = pytest.mark.thorough

NETWORK = ["--stages", "1", "--filters", "4", "8", "--batch-size", "256"]


@pytest.fixture(scope="module")
def hdf5(tiny_imagenet_sample, tmp_path_factory):
    """The sample built into HDF5 files, 2 images a class held out for the test."""
    folder = tmp_path_factory.mktemp("tiny_imagenet") / "hdf5"
    source = ["--dataset-path", tiny_imagenet_sample, "--test-per-class", 2]
    printed = run("build_tiny_imagenet.py", *source, "--hdf5", folder)
    assert "3,000 images" in printed
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def watched(hdf5, output):
    """The last checkpoint of a watched run."""
    run("train.py", "--hdf5", hdf5, *NETWORK, "--epochs", 2, "-o", output)
    return output / "checkpoints_tinyimagenet" / "epoch_2.hdf5"


@pytest.fixture(scope="module")
def model(hdf5, output):
    """The final model of a run by the modern recipe."""
    recipe = ["--recipe", "modern_cutmix", "--epochs", 2]
    run("train_decay.py", "--hdf5", hdf5, *NETWORK, *recipe, "-o", output)
    return output / "resnet_tinyimagenet_decay.hdf5"


def test_the_fast_recipe_trains_on_images_that_grow(hdf5, tmp_path):
    recipe = ["--recipe", "fast", "--epochs", 2]
    network = ["--stages", "1", "1", "1", "--filters", "4", "8", "8", "8"]
    printed = run("train_decay.py", "--hdf5", hdf5, *network, *recipe, "-o", tmp_path)
    assert re.search(r"^ +2/2 ", printed, re.MULTILINE)
    assert load_model(tmp_path / "resnet_tinyimagenet_decay.hdf5")[0].input_shape[1:3] == (64, 64)


def test_images_cannot_grow_where_the_pool_leaves_more_than_one_place(hdf5, tmp_path):
    options = ["--hdf5", hdf5, *NETWORK, "--recipe", "fast", "-o", tmp_path]
    assert "pools its last map, 32x32, by parts of 8x8" in refused("train_decay.py", *options)


def test_watched_training_learns(watched):
    history = read_checkpoint(watched).history
    assert history["loss"][1] < history["loss"][0]


def test_rank_accuracy_counts_every_image_of_the_test_split(hdf5, model, tmp_path):
    kept = tmp_path / "predictions.npz"
    options = ["--model", model, "--hdf5", hdf5, "--batch-size", 300]
    printed = run("rank_accuracy.py", *options, "--save", kept)
    assert "400 images" in printed
    predictions, labels = (np.load(kept)[name] for name in ("predictions", "labels"))
    assert np.bincount(labels, minlength=200).tolist() == [2] * 200
    best_five = np.argsort(-predictions, axis=1)[:, :5]
    expected = [(best_five[:, :k] == labels[:, None]).any(axis=1).mean() for k in (1, 5)]
    found = re.findall(r"rank-[15]: (\d+\.\d\d)%", printed)
    assert [float(value) / 100 for value in found] == pytest.approx(expected, abs=5.1e-5)


def test_rank_accuracy_reports_by_class_as_text_and_json(hdf5, model, tmp_path):
    kept, folder = tmp_path / "kept.npz", tmp_path / "new" / "folder"
    options = ["--model", model, "--hdf5", hdf5, "--save", kept, "--report", folder]
    printed = run("rank_accuracy.py", *options)
    name = folder / f"{model.stem}_test"
    assert f"report: {name}.txt, {name}.json" in printed
    report = json.loads(Path(f"{name}.json").read_text())
    probabilities, labels = (np.load(kept)[array] for array in ("predictions", "labels"))
    said = probabilities.argmax(axis=1)
    matrix = np.zeros((200, 200), int)
    np.add.at(matrix, (labels, said), 1)
    assert report["confusion_matrix"] == matrix.tolist()
    assert report["images"] == 400
    assert report["rank_1"] == pytest.approx((said == labels).mean())
    assert [row["recall"] for row in report["classes"]] == [matrix[n, n] / 2 for n in range(200)]
    text = Path(f"{name}.txt").read_text()
    assert text.startswith("\n".join(printed.splitlines()[1:4]))
    assert f"calibration error, 15 bins: {report['calibration_error']:.2%}" in text
    right, said = np.unravel_index((matrix - np.diag(np.diag(matrix))).argmax(), matrix.shape)
    names = [row["name"] for row in report["classes"]]
    assert f"\n     2  {names[right]}, taken for {names[said]}\n" in text


def test_rank_accuracy_takes_models_of_any_data_set(tmp_path):
    """The published CIFAR-10 model, on pictures of its size and classes."""
    published = ROOT / "output" / "results" / "cifar10_16-16-32-64_decay" / "resnet_cifar10.hdf5"
    _, spec = load_model(published)
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    names = tuple((name, name) for name in spec.label_names)
    path, origin = tmp_path / "test.hdf5", Origin(split="test", build="a")
    with HDF5DatasetWriter(images.shape, path, names, origin=origin) as writer:
        writer.add(images, np.arange(10))
        writer.mean = np.full(3, 120.0)
    options = ["--model", published, "--hdf5", tmp_path, "--report", tmp_path]
    printed = run("rank_accuracy.py", *options)
    assert "10 images" in printed
    assert len(json.loads((tmp_path / "resnet_cifar10_test.json").read_text())["classes"]) == 10


def test_rank_accuracy_evaluates_checkpoints_and_the_validation_split(hdf5, watched):
    options = ["--model", watched, "--hdf5", hdf5, *NETWORK[:-2]]
    printed = run("rank_accuracy.py", *options, "--split", "val")
    assert "1000 images" in printed
    accuracy = float(re.search(r"rank-1: (\S+)%", printed)[1]) / 100
    assert accuracy == pytest.approx(read_checkpoint(watched).history["val_accuracy"][-1], abs=1e-4)


def test_the_modern_recipes_model_and_checkpoint_are_what_was_evaluated(hdf5, model):
    checkpoint = model.parent / "checkpoints_tinyimagenet_decay" / "epoch_2.hdf5"
    options = ["--hdf5", hdf5, *NETWORK[:-2], "--split", "val", "--model"]
    expected = read_checkpoint(checkpoint).history["val_accuracy"][-1]
    for path in (checkpoint, model):
        printed = run("rank_accuracy.py", *options, path)
        accuracy = float(re.search(r"rank-1: (\S+)%", printed)[1]) / 100
        assert accuracy == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_evaluated_is_refused_in_one_line(hdf5, model, tmp_path):
    options = ["rank_accuracy.py", "--hdf5", hdf5]
    assert "nowhere.hdf5: there is no such file" in refused(*options, "--model", "nowhere.hdf5")
    options += ["--model", model]
    assert "has stages (1,), not (1, 1, 2)" in refused(*options, "--stages", 1, 1, 2)
    options = ["rank_accuracy.py", "--model", model, *NETWORK[:-2]]
    assert str(tmp_path / "test.hdf5") in refused(*options, "--hdf5", tmp_path)


def test_training_without_the_built_files_says_what_to_build(tmp_path):
    complaint = refused("train.py", "--hdf5", tmp_path, "-o", tmp_path / "output")
    assert f"{tmp_path}: it holds no HDF5 file; build_tiny_imagenet.py makes it" in complaint
