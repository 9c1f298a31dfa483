import json
import os

import numpy as np
import pytest

from pipeline.batches import EvaluationBatches, TrainingBatches
from pipeline.command_line.options import parse_training, training_parser
from pipeline.errors import UserError
from pipeline.files.checkpoints import newest_checkpoint
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter
from pipeline.training import loop
from pipeline.training.run import Run
from pipeline.training.schedule import constant

SCRIPT = "train.py"
DEFAULTS = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1}


@pytest.fixture
def train(tiny_network, tiny_images, tmp_path):
    """Trains, or goes on, as a script does: `train(epochs=1)`."""

    def train(epochs, spoil=None):
        parser = training_parser("", (), DEFAULTS, str(tmp_path), "checkpoints")
        parser.prog = SCRIPT
        args, checkpoint = parse_training(parser, ["--resume", "--epochs", str(epochs)])
        run = Run(SCRIPT, args, checkpoint)
        train_batches = TrainingBatches(*tiny_images, 8, start_epoch=run.start_epoch)
        test_batches = EvaluationBatches(*tiny_images, 8)
        model = tiny_network()

        def schedule(epoch, learning_rate):
            if spoil:
                spoil(model)
            return learning_rate

        loop.train(model, train_batches, test_batches, run, schedule, watched=True)

    return train


def test_an_epoch_that_ends_in_no_numbers_leaves_neither_history_nor_checkpoint(train, tmp_path):
    """Neither loss tells: training does without the moving mean, and a ReLU makes zero of NaN."""

    def spoil(model):
        mean = model.network.get_layer("bn").moving_mean
        mean.assign(np.full(mean.shape, np.nan))

    train(epochs=1)
    message = (
        r"bn/moving_mean is no longer finite in epoch 2, after its last batch; no epoch was "
        r"completed after .*epoch_1\.hdf5; with a lower rate: python .* --learning-rate 0\.01$"
    )
    with pytest.raises(UserError, match=message):
        train(epochs=2, spoil=spoil)
    assert newest_checkpoint(tmp_path / "checkpoints").epoch == 1
    assert len(json.loads((tmp_path / "train.json").read_text())["loss"]) == 1


# images that can no longer be read


@pytest.fixture
def run(tmp_path):
    parser = training_parser("", (), DEFAULTS, str(tmp_path / "output"), "checkpoints")
    return Run(SCRIPT, *parse_training(parser, []))


@pytest.fixture
def hdf5(tmp_path, tiny_images):
    """A file that has shrunk, as on a failing disk, since it was opened."""
    names = (("n1", "ant"), ("n2", "bee"), ("n3", "cat"), ("n4", "dog"))
    with HDF5DatasetWriter(tiny_images[0].shape, tmp_path / "train.hdf5", names) as writer:
        writer.add(*tiny_images)
    opened = HDF5DatasetGenerator(tmp_path / "train.hdf5", len(names), 8)
    os.truncate(tmp_path / "train.hdf5", 3000)
    return opened


@pytest.mark.jax
def test_training_ends_with_what_is_wrong_with_the_images(run, hdf5, tiny_network):
    train_batches, test_batches = hdf5.training_batches(8), hdf5.evaluation_batches(8)
    with pytest.raises(UserError, match=r"train\.hdf5 has become shorter since it was opened"):
        loop.train(tiny_network(), train_batches, test_batches, run, constant, watched=True)


@pytest.mark.jax
def test_the_report_ends_with_what_is_wrong_with_the_images(run, hdf5, tiny_network):
    with pytest.raises(UserError, match=r"train\.hdf5 has become shorter since it was opened"):
        loop.report(tiny_network(), hdf5.evaluation_batches(8), ("a", "b", "c", "d"), run)
    assert not run.report_path.exists()


def test_an_error_of_another_kind_stays_what_it_is(run, tiny_images, tiny_network):
    wide = np.zeros((24, 16, 16, 3), dtype=np.uint8)
    batches = TrainingBatches(wide, tiny_images[1], 8)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - it is the backend's own
        loop.train(tiny_network(), batches, batches, run, constant, watched=True)
    assert not isinstance(caught.value, UserError)
