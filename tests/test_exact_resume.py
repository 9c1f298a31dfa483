"""A training that was stopped and resumed is the one that was not, to the last bit.

Here the parts that scripts do not vary in their tests: threads that make batches, and precision. A
stop by signal or kill leads to the same checkpoint as a run that ends with that epoch.
"""

import shutil

import keras
import pytest

from pipeline.batches import EvaluationBatches, TrainingBatches
from pipeline.command_line.options import parse_training, training_parser
from pipeline.preprocessing.affineaugmenter import AffineAugmenter
from pipeline.training import loop
from pipeline.training.run import Run
from pipeline.training.schedule import constant

SCRIPT = "train.py"
DEFAULTS = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1}


@pytest.fixture(
    params=[
        pytest.param("float32", marks=pytest.mark.jax),
        pytest.param("mixed_bfloat16", marks=pytest.mark.jax),
        "mixed_float16",
    ]
)
def precision(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def train(precision, tiny_network, tiny_images, tmp_path):
    """Trains, or goes on, as a script does, with shifted and flipped images."""

    def train(name, epochs, workers):
        parser = training_parser("", (), DEFAULTS, str(tmp_path / name), "checkpoints")
        parser.prog = SCRIPT
        options = ["--resume", "--every", "1", "--precision", precision, "--workers", str(workers)]
        args, checkpoint = parse_training(parser, [*options, "--epochs", str(epochs)])
        run = Run(SCRIPT, args, checkpoint)
        keras.utils.set_random_seed(args.seed)
        augmenters = [AffineAugmenter(shift=0.1, flip=True)]
        settings = {"start_epoch": run.start_epoch, "workers": workers}
        train_batches = TrainingBatches(*tiny_images, 8, augmenters, **settings)
        test_batches = EvaluationBatches(*tiny_images, 8, workers=workers)
        loop.train(tiny_network(), train_batches, test_batches, run, constant, watched=True)
        return (run.checkpoints / f"epoch_{epochs}.hdf5").read_bytes()

    return train


def test_resume_is_exact_whatever_the_precision_and_however_many_threads(train, tmp_path):
    straight = train("straight", epochs=3, workers=1)
    resumed = tmp_path / "resumed" / "checkpoints"
    resumed.mkdir(parents=True)
    shutil.copy(tmp_path / "straight" / "checkpoints" / "epoch_1.hdf5", resumed)
    train("resumed", epochs=2, workers=4)
    assert train("resumed", epochs=3, workers=1) == straight
