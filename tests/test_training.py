import json
import os
from dataclasses import replace

import numpy as np
import pytest
from toy import experiment, read

from pipeline.batches import TrainingBatches
from pipeline.callbacks.throughput import Throughput
from pipeline.command_line.options import training_parser
from pipeline.command_line.training import parse_and_train
from pipeline.errors import UserError
from pipeline.files.checkpoints import newest_checkpoint
from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter


@pytest.fixture
def go_on(tmp_path, monkeypatch):
    """Trains the toy experiment, or goes on with it, as a script does: `go_on(epochs=1)`."""

    def go_on(epochs, reader=read):
        monkeypatch.setattr("sys.argv", ["train.py", "-o", str(tmp_path)])
        toy = experiment(reader=reader)
        argv = ["-o", str(tmp_path), "--epochs", str(epochs)]
        if newest_checkpoint(tmp_path / "checkpoints"):
            argv.append("--resume")
        parse_and_train(training_parser("", toy), toy, argv)

    return go_on


@pytest.mark.numerics
def test_an_epoch_that_ends_in_no_numbers_leaves_neither_history_nor_checkpoint(
    go_on, tmp_path, monkeypatch
):
    """Neither loss tells: training does without the moving mean once the epoch is over."""

    def spoil(callback, epoch, logs=None):
        mean = callback.model.network.get_layer("bn").moving_mean
        mean.assign(np.full(mean.shape, np.nan))

    go_on(epochs=1)
    message = (
        r"bn/moving_mean is no longer finite in epoch 2, after its last batch; no epoch was "
        r"completed after .*epoch_1\.hdf5; with a lower rate: python .* --learning-rate 0\.01$"
    )
    monkeypatch.setattr(Throughput, "on_epoch_end", spoil)
    with pytest.raises(UserError, match=message):
        go_on(epochs=2)
    assert newest_checkpoint(tmp_path / "checkpoints").epoch == 1
    assert len(json.loads((tmp_path / "toy.json").read_text())["loss"]) == 1


def test_no_batches_are_made_ahead_once_training_has_ended(go_on, monkeypatch):
    stopped, stop = [], TrainingBatches.stop
    monkeypatch.setattr(TrainingBatches, "stop", lambda self: stopped.append(self) or stop(self))
    go_on(epochs=1)
    (batches,) = stopped
    with pytest.raises(RuntimeError):
        batches[0]


# images that can no longer be read


@pytest.fixture
def shrinking(tmp_path):
    """Reads the toy data set from a file that has shrunk, as on a failing disk, once it is open."""

    def shrinking(path=None):
        data = read()
        names = tuple((name, name) for name in data.label_names)
        with HDF5DatasetWriter(data.train_images.shape, tmp_path / "train.hdf5", names) as writer:
            writer.add(data.train_images, data.train_labels)
        opened = HDF5DatasetGenerator(tmp_path / "train.hdf5")
        os.truncate(tmp_path / "train.hdf5", 3000)
        return replace(data, train_images=opened.images)

    return shrinking


@pytest.mark.jax
def test_training_ends_with_what_is_wrong_with_the_images(go_on, shrinking):
    with pytest.raises(UserError, match=r"train\.hdf5 has become shorter since it was opened"):
        go_on(epochs=1, reader=shrinking)


@pytest.mark.jax
def test_the_report_ends_with_what_is_wrong_with_the_images(go_on, shrinking, tmp_path):
    go_on(epochs=1)
    (tmp_path / "toy_report.txt").unlink()

    def shrinking_test(path=None):
        data = shrinking()
        return replace(data, train_images=data.val_images, val_images=data.train_images)

    with pytest.raises(UserError, match=r"train\.hdf5 has become shorter since it was opened"):
        go_on(epochs=1, reader=shrinking_test)  # which only reports
    assert not (tmp_path / "toy_report.txt").exists()


def test_an_error_of_another_kind_stays_what_it_is(go_on):
    def reader(path=None):
        return replace(read(), val_images=np.zeros((24, 16, 16, 3), dtype=np.uint8))

    with pytest.raises(Exception) as caught:  # noqa: PT011 - it is the backend's own
        go_on(epochs=1, reader=reader)
    assert not isinstance(caught.value, UserError)
