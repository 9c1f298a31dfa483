import json

import numpy as np
import pytest

from pipeline import training
from pipeline.errors import UserError
from pipeline.io.batches import EvaluationBatches, TrainingBatches
from pipeline.io.checkpoints import newest_checkpoint
from pipeline.options import parse_training, training_parser
from pipeline.run import Run

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

        training.train(model, train_batches, test_batches, run, schedule, watched=True)

    return train


def test_an_epoch_that_ends_in_no_numbers_leaves_neither_history_nor_checkpoint(train, tmp_path):
    """Neither loss tells: training does without the moving mean, and a ReLU makes zero of NaN."""

    def spoil(model):
        mean = model.get_layer("bn").moving_mean
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
