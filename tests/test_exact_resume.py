"""A training that was stopped and resumed is the one that was not, to the last bit.

Here whatever the recipe, the precision and the threads that make batches. A stop by signal or kill
leads to the same checkpoint as a run that ends with that epoch; see test_scripts.py and
test_kill_storm.py.
"""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from toy import experiment, read

from pipeline.errors import Interrupted, UserError
from pipeline.files.checkpoints import newest_checkpoint
from pipeline.files.modelfile import read_checkpoint
from pipeline.history import read_history
from pipeline.io.dataset import Dataset
from pipeline.io.miniatures import write_photographs
from pipeline.io.photographfolder import read_photograph_folder
from pipeline.nn.spec import Architecture
from pipeline.training.assembly import make_training
from pipeline.training.experiment import Options, train

pytestmark = pytest.mark.numerics

PLAIN = experiment(affine={"shift": 0.1, "flip": True})
# All that a recipe may have: a schedule by step, averages, labels that are spread, augmenters.
MODERN = experiment(
    nesterov=True,
    schedule="cosine",
    warmup_epochs=1,
    label_smoothing=0.1,
    ema=0.5,
    crop_padding=1,
    flip="alternating",
    trivial_augment=0.5,
    cutout=3,
    erasing=0.5,
    cutmix=0.5,
)
HALF = pytest.mark.needs("half precision")


@pytest.mark.parametrize(
    ("toy", "precision"),
    [
        pytest.param(PLAIN, "float32", id="plain"),
        pytest.param(MODERN, "float32", marks=pytest.mark.jax, id="modern"),
        pytest.param(PLAIN, "mixed_bfloat16", marks=[pytest.mark.jax, HALF], id="bfloat16"),
        pytest.param(PLAIN, "mixed_float16", marks=HALF, id="float16"),
    ],
)
def test_resume_is_exact(toy, precision, tmp_path):
    assert_resume_is_exact(toy, precision, tmp_path)


def photographs_of_64_pixels(folder):
    write_photographs(folder, 12)
    return read_photograph_folder(str(folder), 64)


def arrays_of_64_pixels(folder):
    images = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    mean = images.mean((0, 1, 2), dtype=np.float32)
    return Dataset(images, labels, images, labels, ("ant", "bee"), mean=mean)


@pytest.mark.jax
@pytest.mark.parametrize(
    ("make", "stem"),
    [(photographs_of_64_pixels, "imagenet"), (arrays_of_64_pixels, "tiny_imagenet")],
)
def test_resume_is_exact_while_images_grow(make, stem, tmp_path):
    """Of 32 pixels in the first of two epochs, of 64 in the second."""
    data = make(tmp_path / "images")
    growth = {"first": 0.5, "last": 1.0, "since": 0.25, "until": 0.5}
    toy = experiment(reader=lambda path: data, crop_scale=0.35, growth=growth)
    network = Architecture("resnet", stem, (1, 1, 1), (4, 8, 8, 8))
    assert_resume_is_exact(replace(toy, architecture=network), "float32", tmp_path)
    recipe = replace(toy.recipes["plain"], epochs=2)
    batches = make_training(recipe, data, lambda images: images)
    assert [batches.batch(epoch, 0)[0].shape[1:3] for epoch in (0, 1)] == [(32, 32), (64, 64)]


def test_images_that_are_not_square_or_have_a_mean_image_cannot_grow(tmp_path):
    data = arrays_of_64_pixels(tmp_path)
    low = data.train_images[:, :32]
    recipe = experiment(crop_scale=0.35, growth={"first": 0.5}).recipes["plain"]
    for refused in (
        replace(data, train_images=low, val_images=low),
        replace(data, mean=low[0].mean(axis=0, keepdims=True)),
    ):
        with pytest.raises(ValueError, match="only square images with a mean colour can grow"):
            make_training(recipe, refused, lambda images: images)


def assert_resume_is_exact(toy, precision, tmp_path):
    def go_on(name, workers):
        """Trains, or goes on; returns the last checkpoint."""
        checkpoints = tmp_path / name / "checkpoints"
        options = {"resume": True, "every": 1, "precision": precision, "workers": workers}
        options = Options(output=str(tmp_path / name), epochs=2, **options)
        train(toy, options)
        return (checkpoints / "epoch_2.hdf5").read_bytes()

    keras.config.set_dtype_policy(precision)
    try:
        straight = go_on("straight", workers=1)
        resumed = tmp_path / "resumed" / "checkpoints"
        resumed.mkdir(parents=True)
        shutil.copy(tmp_path / "straight" / "checkpoints" / "epoch_1.hdf5", resumed)
        assert go_on("resumed", workers=4) == straight
    finally:
        keras.config.set_dtype_policy("float32")


class Interruption(keras.callbacks.Callback):
    """Has this process get SIGTERM in a batch, or in the validation of an epoch."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.place = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            signal.raise_signal(signal.SIGTERM)

    def on_test_begin(self, logs=None):
        if (self.epoch, None) == self.place:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    "toy",
    [pytest.param(PLAIN, id="plain"), pytest.param(MODERN, marks=pytest.mark.jax, id="modern")],
)
def test_resume_amid_an_epoch_is_exact(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)  # a progress row is drawn

    def options(name):
        return Options(output=str(tmp_path / name), epochs=2, resume=True, class_weights="balanced")

    train(toy, options("straight"))
    checkpoints = tmp_path / "again" / "checkpoints"
    for place, reached in (
        ((0, 0), "epoch_0_plus_1_batches.hdf5"),
        ((0, 1), "epoch_0_plus_2_batches.hdf5"),
        ((0, None), "epoch_1.hdf5"),
        ((1, 1), "epoch_1_plus_2_batches.hdf5"),
    ):
        with pytest.raises(Interrupted):
            train(toy, options("again"), callbacks=[Interruption(*place)])
        assert newest_checkpoint(checkpoints).path.name == reached
    train(toy, options("again"))
    for name in ("checkpoints/epoch_2.hdf5", "checkpoints/best.hdf5", "toy.json"):
        ours, straight = (tmp_path / run / name for run in ("again", "straight"))
        assert ours.read_bytes() == straight.read_bytes(), name
    assert not list(checkpoints.glob("*_plus_*"))


@pytest.fixture
def amid_an_epoch(tmp_path):
    """A run that was stopped after two of the three batches of its fourth epoch."""
    options = Options(output=str(tmp_path), epochs=9, learning_rate=1e-30)
    with pytest.raises(Interrupted):
        train(experiment(), options, callbacks=[Interruption(3, 1)])
    return replace(options, resume=True)


def test_with_another_number_of_images_an_epoch_under_way_is_refused(amid_an_epoch):
    """Even with as many batches: the images would come in another order."""

    def one_more(path=None):
        data = read()
        images, labels = (
            np.concatenate([part, part[:1]]) for part in (data.train_images, data.train_labels)
        )
        return replace(data, train_images=images, train_labels=labels)

    record = Path(amid_an_epoch.output) / "toy_options.json"
    before = record.read_bytes()
    with pytest.raises(UserError, match="within an epoch of 24 images, and there are 25 now: go"):
        train(experiment(reader=one_more), amid_an_epoch)
    assert record.read_bytes() == before


def test_patience_that_has_run_out_lets_the_epoch_under_way_end_first(amid_an_epoch, capsys):
    history = train(experiment(), replace(amid_an_epoch, patience=1)).history
    assert len(history["loss"]) == 4
    assert "has not risen for --patience 1: training ends" in capsys.readouterr().out


def test_patience_ends_a_run_where_it_ends_the_resumed_one(tmp_path, capsys):
    patient = {"resume": True, "every": 1, "patience": 2, "epochs": 9, "learning_rate": 1e-30}
    output = tmp_path / "straight"
    still = experiment()
    straight = train(still, Options(output=str(output), **patient))
    accuracies = straight.history["val_accuracy"]
    assert len(accuracies) == 3 + accuracies.index(max(accuracies))
    assert "has not risen for --patience 2: training ends" in capsys.readouterr().out

    last = len(accuracies)
    resumed = tmp_path / "resumed" / "checkpoints"
    resumed.mkdir(parents=True)
    shutil.copy(output / "checkpoints" / "epoch_1.hdf5", resumed)
    for _ in range(2):  # the second time nothing is left to train
        again = train(still, Options(output=str(resumed.parent), **patient))
        assert again.history == straight.history
    assert "has not risen for --patience 2: nothing is trained" in capsys.readouterr().out
    name = f"epoch_{last}.hdf5"
    assert (resumed / name).read_bytes() == (output / "checkpoints" / name).read_bytes()


def test_a_report_in_another_folder_has_all_that_belongs_to_it(tmp_path):
    trained = train(experiment(), Options(output=str(tmp_path / "run"), epochs=2, every=1))
    earlier = read_checkpoint(tmp_path / "run" / "checkpoints" / "epoch_1.hdf5")
    report = tmp_path / "report"
    train(experiment(), Options(output=str(report), epochs=1), earlier)
    history = read_history(report / "toy.json")
    assert history == {name: values[:1] for name, values in trained.history.items()}
    assert json.loads((report / "toy_options.json").read_text())["start_epoch"] == 1
    for name in ("toy.csv", "toy.png", "toy.pdf", "toy_report.html", "toy_report.txt"):
        assert (report / name).stat().st_size > 0
