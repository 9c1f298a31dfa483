"""train_images.py as a user runs it: on photographs of all sizes, interrupted, and used later."""

import csv
import io
import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import ROOT, interrupted, refused, run

from config import images_config
from pipeline.files.modelfile import load_model, read_checkpoint
from pipeline.files.seal import sealed, unsealed
from pipeline.io.miniatures import write_photographs
from pipeline.training.run import SET_BY_OPTIONS

pytestmark = pytest.mark.thorough

SCRIPT = "train_images.py"
TINY = ["--size", 32, "--stages", 1, 1, "--filters", 8, 16, 32, "--batch-size", 8]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """32 photographs, for runs whose accuracy does not matter."""
    folder = tmp_path_factory.mktemp("small")
    write_photographs(folder, 16)
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory, small):
    """A run of three epochs, all its checkpoints kept."""
    output = tmp_path_factory.mktemp("straight")
    run(SCRIPT, "--images", small, *TINY, "--epochs", 3, "--every", 1, "-o", output)
    return output


def checkpoint(output, epoch):
    return output / "checkpoints_images" / f"epoch_{epoch}.hdf5"


def test_120_crops_of_two_photographs_are_told_apart(photograph_folder, tmp_path, run_python):
    options = ["--size", 64, "--stages", 1, 1, "--filters", 16, 32, 64]
    options += ["--epochs", 8, "--batch-size", 16]
    model = tmp_path / "M.hdf5"
    printed = run(
        SCRIPT, "--images", photograph_folder, *options, "--output", tmp_path, "--model", model
    )
    assert "2 classes, 96 pictures to train on, 24 to validate on" in printed
    done = run_python("predict.py", "--model", model, photograph_folder, "--csv", "--top", 1)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 120
    right = [row["label"] == Path(row["picture"]).parent.name for row in rows]
    assert np.mean(right) >= 0.8

    # What the report says of the held-out pictures is what predict.py says of them.
    accuracy = float(re.search(r"accuracy +(\d\.\d{4}) +24", printed)[1])
    history = json.loads((tmp_path / "resnet_images.json").read_text())
    assert history["val_accuracy"][-1] == pytest.approx(accuracy, abs=1e-4)
    assert 120 * np.mean(right) <= 96 + round(24 * accuracy)


def test_without_pictures_there_is_a_sample(tmp_path):
    printed = run(SCRIPT, "--epochs", 1, "-o", tmp_path)
    assert f"{tmp_path}/sample_photographs: 2 classes" in printed
    _, spec = load_model(tmp_path / "resnet_images.hdf5")
    assert (spec.image_shape, spec.label_names) == ((64, 64, 3), ("flower", "temple"))
    assert spec.mean.shape == (3,)
    going_on = run(SCRIPT, "--epochs", 2, "--resume", "-o", tmp_path)
    assert re.search(r"^ +2/2 ", going_on, re.MULTILINE)


def test_training_goes_on_exactly_after_ctrl_c_and_a_kill(straight, small, tmp_path):
    options = ["--images", small, *TINY, "--epochs", 3, "--every", 1]
    options += ["--workers", 3, "-o", tmp_path]
    printed = interrupted(SCRIPT, *options, epoch=2, number=signal.SIGINT)
    assert "go on with" in printed
    interrupted(SCRIPT, "-o", tmp_path, "--resume", epoch=3, number=signal.SIGKILL)
    run(SCRIPT, "-o", tmp_path, "--resume")
    for file in (Path("checkpoints_images", "epoch_3.hdf5"), "resnet_images.hdf5"):
        assert (tmp_path / file).read_bytes() == (straight / file).read_bytes()


def test_the_modern_recipe_trains_on_photographs_as_well(small, tmp_path):
    run(SCRIPT, "--images", small, *TINY, "--recipe", "modern", "--epochs", 11, "-o", tmp_path)
    parts = read_checkpoint(checkpoint(tmp_path, 11)).options["recipe_parts"]
    assert (parts["trivial_augment"], parts["crop_scale"], parts["ema"]) == (0.5, 0.35, 0.999)


def test_rank_accuracy_is_on_the_pictures_that_a_run_has_held_out(small, tmp_path):
    options = ["--images", small, *TINY, "--holdout", 0.4, "--epochs", 1, "-o", tmp_path]
    assert "20 pictures to train on, 12 to validate on" in run(SCRIPT, *options)
    accuracy = json.loads((tmp_path / "resnet_images.json").read_text())["val_accuracy"][-1]
    model = tmp_path / "resnet_images.hdf5"
    evaluate = ["rank_accuracy.py", "--split", "val", "--model"]
    for file in (model, checkpoint(tmp_path, 1)):
        printed = run(*evaluate, file, "--images", small)
        assert f"on the 12 images of {small}\nrank-1: {accuracy:.2%}\n" in printed

    # With another picture among them, others could have been held out.
    more = shutil.copytree(small, tmp_path / "more")
    shutil.copy(small / "temple" / "000.jpg", more / "flower")
    unknown = f"which of its pictures {model} has not been trained on is not known"
    assert unknown in refused(*evaluate, model, "--images", more)
    earlier = ROOT / "output" / "results" / "cifar10_16-16-32-64_decay" / "resnet_cifar10.hdf5"
    assert "is not known" in refused(*evaluate, earlier, "--images", small)


def test_a_run_goes_on_with_its_own_pictures_and_network(straight, tmp_path):
    copy = shutil.copytree(straight, tmp_path / "copy")
    going_on = [SCRIPT, "-o", copy, "--resume", "--epochs", 4]
    for option in (["--holdout", "0.4"], ["--network", "resnet50"], ["--weights", "another.hdf5"]):
        complaint = refused(*going_on, *option)
        assert f"{option[0]} " in complaint
        assert "or start a new run" in complaint


def test_that_pictures_or_classes_have_changed_is_told_before_a_run_goes_on(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "photographs")
    output = tmp_path / "output"
    run(SCRIPT, "--images", folder, *TINY, "--epochs", 1, "-o", output)
    told = "note: the pictures are not those that this run was begun with"
    assert told not in run(SCRIPT, "-o", output, "--resume")
    shutil.copy(folder / "temple" / "000.jpg", folder / "temple" / "copy.jpg")
    assert told in run(SCRIPT, "-o", output, "--resume")
    (folder / "temple").rename(folder / "palace")
    assert "was trained on other classes" in refused(SCRIPT, "-o", output, "--resume")


def test_pictures_to_test_on_are_what_the_report_is_on(small, tmp_path):
    folder = tmp_path / "photographs"
    for split, first, last in (("train", 0, 10), ("val", 10, 13), ("test", 13, 16)):
        for name in ("flower", "temple"):
            (folder / split / name).mkdir(parents=True)
            for number in range(first, last):
                shutil.copy(small / name / f"{number:03}.jpg", folder / split / name)
    shutil.rmtree(folder / "test" / "temple")
    shutil.copytree(small / "temple", folder / "test" / "temple")
    printed = run(SCRIPT, "--images", folder, *TINY, "--epochs", 1, "-o", tmp_path)
    assert "6 to validate on, in " in printed
    assert "final evaluation, on 19 images not used so far:" in printed
    report = (tmp_path / "resnet_images_report.txt").read_text()
    assert re.search(r"^ +flower .* 3$", report, re.MULTILINE)
    assert re.search(r"^ +temple .* 16$", report, re.MULTILINE)


# weights


def test_weights_of_another_run_are_taken_over_but_for_the_classifier(straight, small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "photographs")
    shutil.copytree(folder / "flower", folder / "third")
    start = ["--images", folder, *TINY, "--learning-rate", 1e-30, "--epochs", 1]
    trained = straight / "resnet_images.hdf5"
    printed = run(SCRIPT, *start, "--weights", trained, "-o", tmp_path / "output")
    assert f"weights: those of {trained}, with a new classifier" in printed
    before, _ = load_model(trained)
    after, spec = load_model(tmp_path / "output" / "resnet_images.hdf5")
    assert spec.label_names == ("flower", "temple", "third")
    kernels = {w.path: w.numpy() for w in before.trainable_weights if "fc" not in w.path}
    assert len(kernels) > 10
    for weight in after.trainable_weights:
        if weight.path in kernels:
            np.testing.assert_allclose(weight.numpy(), kernels[weight.path], atol=1e-6)
    same_file = os.path.relpath(trained, ROOT)
    run(SCRIPT, "--weights", same_file, "--epochs", 2, "--resume", "-o", tmp_path / "output")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*TINY, "--weights", "nowhere.hdf5"], "nowhere.hdf5: there is no such file"),
        ([*TINY, "--weights", "README.md"], "README.md is truncated, damaged or not written by"),
    ],
)
def test_weights_that_cannot_be_read_are_refused(small, tmp_path, options, message):
    assert message in refused(SCRIPT, "--images", small, *options, "-o", tmp_path)


def test_weights_of_another_body_are_refused(straight, small, tmp_path):
    weights = ["--weights", straight / "resnet_images.hdf5", "-o", tmp_path]
    other = ["--size", 32, "--stages", 1, "--filters", 8, 16]
    assert "holds another network" in refused(SCRIPT, "--images", small, *other, *weights)
    other = ["--size", 32, "--stages", 1, 1, "--filters", 8, 16, 64]
    assert "holds another network" in refused(SCRIPT, "--images", small, *other, *weights)


# refusals


def test_a_bad_picture_takes_one_line_and_stops_before_training(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "photographs")
    (folder / "flower" / "bad.jpg").write_bytes(b"")
    options = ["--images", folder, *TINY, "--epochs", 1, "-o", tmp_path / "output"]
    complaint = refused(SCRIPT, *options)
    assert "1 of 33 pictures cannot be used, bad.jpg: " in complaint
    assert complaint.endswith("; --skip-bad goes on without them\n")
    printed = run(SCRIPT, *options, "--skip-bad")
    assert "1 of 33 pictures cannot be used and are left out" in printed
    # Remembered, so that a run goes on as it was begun.
    going_on = run(SCRIPT, "-o", tmp_path / "output", "--resume", "--epochs", 2)
    assert re.search(r"^ +2/2 ", going_on, re.MULTILINE)


def test_a_picture_that_changes_while_it_is_trained_on_is_named(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "photographs")
    output = tmp_path / "output"
    run(SCRIPT, "--images", folder, *TINY, "--epochs", 1, "-o", output)
    record = output / "resnet_images_pictures.json"
    looks = json.loads(unsealed(record.read_bytes()))
    for _, look in looks.values():
        look["width"] += 10
    record.write_bytes(sealed(json.dumps(looks).encode()))
    complaint = refused(SCRIPT, "-o", output, "--resume", "--epochs", 2)
    assert re.search(r"\d{3}.jpg has changed since it was looked at: it was \d+x\d+", complaint)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "nowhere"], "--images nowhere: there is no such file or folder in "),
        (
            ["--images", "docs"],
            "docs has fewer than two folders of classes: it must have a folder for each",
        ),
        (["--holdout", "1"], "--holdout: 1 is not between 0 and 1"),
        (["--network", "resnet18"], "invalid choice: 'resnet18'"),
        (["--network", "resnet50", "--stages", "1", "1"], "got 5 filters"),
        (["--size", "0"], "--size: 0 is below 1"),
    ],
)
def test_wrong_input_takes_one_line(options, message, tmp_path):
    assert message in refused(SCRIPT, "-o", tmp_path, *options)


def test_all_kinds_of_pictures_go_from_folder_to_prediction(tmp_path, run_python):
    folder = tmp_path / "photographs"
    rng = np.random.default_rng(0)
    suffixes = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"] * 2
    for number, suffix in enumerate(suffixes):
        for name, brightness in (("bright", 200), ("dark", 20)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            image = rng.integers(brightness, brightness + 40, (30 + number, 50, 3), dtype=np.uint8)
            image = image[..., 0] if number % 3 == 0 else image
            cv2.imwrite(str(folder / name / f"{number}{suffix}"), image)
    run(SCRIPT, "--images", folder, *TINY, "--epochs", 6, "-o", tmp_path)
    model = tmp_path / "resnet_images.hdf5"
    done = run_python("predict.py", "--model", model, folder, "--csv", "--top", 1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 28
    assert np.mean([row["label"] in row["picture"] for row in rows]) > 0.9


def test_without_the_option_a_run_on_photographs_finds_its_recipe_again():
    """The script takes the sample's recipes where --resume stands alone."""
    for name, recipe in images_config.SAMPLE.recipes.items():
        theirs = images_config.FOLDER.recipes[name]
        own = {field: getattr(theirs, field) for field in SET_BY_OPTIONS}
        assert replace(recipe, **own) == theirs
