"""An experiment is a value, and one function runs it: with no command line, on any data."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy
from processes import run

from config import cifar10_config
from pipeline import backend
from pipeline.augmentation.geometry import AffineAugmenter
from pipeline.batches import TrainingBatches
from pipeline.errors import UserError
from pipeline.files.modelfile import load_model
from pipeline.io.digits import read_digits
from pipeline.nn.conv import ResNet
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
from pipeline.training.classifier import Classifier
from pipeline.training.experiment import Experiment, Options, train

pytestmark = pytest.mark.thorough

EARLIER_VERSIONS = Path(__file__).parent / "earlier_versions"


# what is left out of the options


def test_options_that_are_left_out_are_the_experiments():
    options = cifar10_config.DECAY.resolve(Options())
    assert (options.dataset, options.recipe) == ("cifar10", "faithful")
    assert (options.epochs, options.batch_size, options.learning_rate) == (150, 128, 0.1)
    assert (options.stages, options.filters) == ((9, 9, 9), (64, 64, 128, 256))
    assert options.checkpoints == "output/checkpoints_decay"
    assert options.model == "output/resnet_cifar10.hdf5"


def test_options_that_are_given_stay_and_others_follow_them():
    given = Options(recipe="modern", epochs=3, output="results", model="elsewhere/m.hdf5")
    options = cifar10_config.DECAY.resolve(given)
    assert (options.epochs, options.batch_size, options.learning_rate) == (3, 256, 0.2)
    assert options.checkpoints == "results/checkpoints_decay"
    assert options.model == "elsewhere/m.hdf5"
    assert cifar10_config.DECAY.resolve(options) == options


# training


def test_a_data_set_of_ones_own_takes_a_reader_and_one_value(tmp_path):
    experiment = Experiment(
        "mine", {"mine": toy.read}, toy.NETWORK, {"plain": toy.RECIPE}, model="mine.hdf5"
    )
    result = train(experiment, Options(output=str(tmp_path), epochs=2))
    assert len(result.history["val_accuracy"]) == 2
    assert result.predictions.accuracy == pytest.approx(result.history["val_accuracy"][-1])
    written = {path.name for path in tmp_path.iterdir() if path.is_file()} - {".lock"}
    endings = (".json", ".csv", ".png", "_report.txt", "_options.json", ".hdf5")
    endings += ("_predictions.npz", "_report.html", ".pdf")
    assert written == {f"mine{ending}" for ending in endings}

    network, spec = load_model(tmp_path / "mine.hdf5")
    images = spec.preprocessor.preprocess(toy.read().val_images)
    ours = network.predict(images, verbose=0)
    np.testing.assert_allclose(ours, result.predictions.probabilities, atol=1e-5)
    assert spec.label_names == toy.NAMES


def test_a_recipe_can_hold_images_out_of_any_data_set(tmp_path):
    experiment = toy.experiment(holdout=8)
    result = train(experiment, Options(output=str(tmp_path)))
    assert len(result.predictions.labels) == 8
    record = json.loads((tmp_path / "toy_options.json").read_text())
    assert record["options"]["recipe_parts"]["holdout"] == 8


def test_digits_are_never_mirrored(tmp_path):
    experiment = replace(cifar10_config.DECAY, architecture=replace(toy.NETWORK))
    options = Options(dataset="digits", output=str(tmp_path), epochs=1, batch_size=512)
    train(experiment, options)
    record = json.loads((tmp_path / "resnet_cifar10_decay_options.json").read_text())
    assert record["options"]["recipe_parts"]["affine"] == {"shift": 0.1, "flip": False}


def test_images_are_scaled_where_the_experiment_does_not_centre_them(tmp_path):
    result = train(toy.experiment(centred=False), Options(output=str(tmp_path)))
    assert result.spec.mean is None


@pytest.mark.parametrize("classes", [(0, 1, 2, 2), (0, 2, 2, 2)])
def test_balanced_classes_weigh_the_same_in_the_loss(classes, tmp_path):
    """6, 6 and 12 images, or 6, none and 18."""

    def unbalanced(path=None):
        data = toy.read()
        labels = np.take(classes, data.train_labels).astype(np.int32)
        return replace(data, train_labels=labels, val_labels=labels, label_names=toy.NAMES[:3])

    plain = {"batch_size": 24, "learning_rate": 1e-30, "reg": 0.0, "module_reg": 0.0}
    experiment = toy.experiment(reader=unbalanced, **plain)
    options = Options(output=str(tmp_path), class_weights="balanced")
    result = train(experiment, options)
    data = unbalanced()
    images = result.spec.preprocessor.preprocess(data.train_images)
    probabilities = np.asarray(result.network(images, training=True))
    losses = -np.log(probabilities[np.arange(24), data.train_labels])
    expected = np.mean([losses[data.train_labels == label].mean() for label in set(classes)])
    assert result.history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(losses.mean(), rel=1e-3)


def test_one_seed_gives_the_same_network_in_one_process_again_and_again(tmp_path):
    first, again, other = (
        train(toy.experiment(), Options(output=str(tmp_path / name), seed=seed)).network
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    for ours, theirs in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(map(np.any, map(np.subtract, first.get_weights(), other.get_weights())))


def test_the_faithful_recipe_is_what_one_would_write_by_hand(tmp_path):
    """Wired by hand as the scripts once were: the same weights to the last bit."""
    data = read_digits()
    options = Options(dataset="digits", output=str(tmp_path), epochs=2, batch_size=256)
    options = replace(options, stages=(1,), filters=(4, 8))
    ours = train(cifar10_config.DECAY, options).network

    mean = MeanPreprocessor.of_images(data.train_images)
    steps = [lambda images, rng: mean.preprocess(images), AffineAugmenter(shift=0.1)]
    batches = TrainingBatches(data.train_images, data.train_labels, 256, steps, seed=42)
    keras.utils.set_random_seed(42)
    network = ResNet.build(32, 32, 3, 10, (1,), (4, 8), reg=5e-4, module_reg=1e-4)
    theirs = Classifier(network, keras.optimizers.SGD(0.1, momentum=0.9))
    backend.accelerate(network, theirs.optimizer)
    decay = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 * (1 - epoch / 2))
    settings = {"shuffle": False, "verbose": 0, "callbacks": [decay]}
    theirs.fit(batches, epochs=2, steps_per_epoch=batches.steps_per_epoch, **settings)
    for weight, other in zip(ours.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_with_other_images_the_learning_rate_still_falls_to_zero(tmp_path):
    def half(path=None):
        data = toy.read()
        return replace(
            data, train_images=data.train_images[:16], train_labels=data.train_labels[:16]
        )

    def options(name):
        return Options(output=str(tmp_path / name), epochs=4, every=1, resume=True)

    cosine = {"schedule": "cosine"}
    train(toy.experiment(**cosine), options("whole"))
    straight = train(toy.experiment(reader=half, **cosine), options("half")).history
    changed = tmp_path / "changed" / "checkpoints"
    changed.mkdir(parents=True)
    shutil.copy(tmp_path / "whole" / "checkpoints" / "epoch_2.hdf5", changed)
    history = train(toy.experiment(reader=half, **cosine), options("changed")).history
    assert history["learning_rate"][2:] == pytest.approx(straight["learning_rate"][2:])


@pytest.mark.needs("half precision")
def test_the_precision_in_force_is_what_is_recorded(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        train(toy.experiment(), Options(output=str(tmp_path)))
    finally:
        keras.config.set_dtype_policy("float32")
    record = json.loads((tmp_path / "toy_options.json").read_text())
    assert record["options"]["precision"] == "mixed_bfloat16"


def test_callbacks_of_ones_own_hear_of_every_epoch_once_it_is_safe(tmp_path):
    class Tracker(keras.callbacks.Callback):
        heard: ClassVar = []

        def on_epoch_end(self, epoch, logs=None):
            assert (tmp_path / "checkpoints" / f"epoch_{epoch + 1}.hdf5").exists()
            self.heard.append(logs["val_accuracy"])

    options = Options(output=str(tmp_path), epochs=2)
    result = train(toy.experiment(), options, callbacks=[Tracker()])
    assert Tracker.heard == pytest.approx(result.history["val_accuracy"])


def test_resuming_does_not_take_another_runs_checkpoint_for_ones_own(tmp_path):
    folder = {"output": str(tmp_path), "resume": True}
    train(toy.experiment(), Options(**folder))
    with pytest.raises(UserError, match="is of a run with script toy, and this one has other"):
        train(replace(toy.experiment(), name="other"), Options(**folder, epochs=2))
    fancy = replace(toy.experiment(), recipes={"fancy": toy.RECIPE})
    with pytest.raises(UserError, match="is of a run with recipe plain, and this one has fancy"):
        train(fancy, Options(**folder, epochs=2))
    assert len(train(toy.experiment(), Options(**folder, epochs=2)).history["loss"]) == 2


def test_a_run_in_a_thread_of_its_own_records_all_that_its_result_depends_on(tmp_path):
    options = Options(output=str(tmp_path), class_weights="balanced", patience=3)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(train, toy.experiment(), options).result()
    recorded = json.loads((tmp_path / "toy_options.json").read_text())["options"]
    assert (recorded["class_weights"], recorded["patience"]) == ("balanced", 3)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"dataset": "fancy"}, "toy has no dataset fancy: choose from toy"),
        ({"recipe": "fancy"}, "toy has no recipe fancy: choose from plain"),
        ({"network": "fancy"}, "toy has no network fancy: leave it out"),
    ],
)
def test_an_option_that_names_what_there_is_not_is_refused(tmp_path, wrong, complaint):
    with pytest.raises(UserError, match=complaint):
        train(toy.experiment(), Options(output=str(tmp_path), **wrong))


def test_a_run_that_was_refused_can_be_gone_on_with_in_the_same_process(tmp_path):
    given = {"output": str(tmp_path), "model": str(tmp_path / "models" / "toy.hdf5")}
    train(toy.experiment(), Options(**given))
    with pytest.raises(UserError, match="holds the 1 epochs of an earlier run") as refused:
        train(toy.experiment(), Options(**given))
    # As a notebook does, it keeps the traceback, and with it the frames that hold the locks.
    assert refused.tb is not None
    result = train(toy.experiment(), Options(**given, resume=True, epochs=2))
    assert len(result.history["loss"]) == 2


def test_nothing_in_the_pipeline_but_its_command_line_knows_of_one():
    find = (
        "import sys, pipeline.training.experiment, pipeline.training.loop, "
        "pipeline.training.assembly, pipeline.training.run; "
        "print([name for name in sys.modules if name.startswith('pipeline.command_line')])"
    )
    done = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# what earlier versions have written


@pytest.mark.parametrize(
    ("script", "name", "folder"),
    [
        ("resnet_cifar10", "watched", "checkpoints"),
        ("resnet_cifar10_decay", "decay", "checkpoints_decay"),
        ("resnet_cifar10_decay", "modern", "checkpoints_decay"),
    ],
)
def test_a_checkpoint_of_an_earlier_version_goes_on_as_it_would_have_there(
    script, name, folder, tmp_path
):
    """The history beside it is that version's of all three epochs."""
    (tmp_path / folder).mkdir()
    shutil.copy(EARLIER_VERSIONS / f"{name}.hdf5", tmp_path / folder / "epoch_1.hdf5")
    run(f"{script}.py", "--resume", "--output", tmp_path)
    ours = json.loads((tmp_path / f"{script}.json").read_text())
    theirs = json.loads((EARLIER_VERSIONS / f"{name}.json").read_text())
    assert ours["loss"][0] == theirs["loss"][0]
    for measure in ("loss", "accuracy"):
        assert ours[measure] == pytest.approx(theirs[measure], rel=0.05)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_the_batch_sizes_matter(error, tmp_path):
    def fail(batch, logs=None):
        raise error

    failing = keras.callbacks.LambdaCallback(on_train_batch_begin=fail)
    complaint = "not enough memory to train on 8 images at a time: choose a smaller --batch-size"
    with pytest.raises(UserError, match=complaint):
        train(toy.experiment(), Options(output=str(tmp_path / "run")), callbacks=[failing])
