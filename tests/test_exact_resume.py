"""A training that was stopped and resumed is the one that was not, to the last bit.

Here the parts that scripts do not vary in their tests: threads that make batches, and precision. A
stop by signal or kill leads to the same checkpoint as a run that ends with that epoch.
"""

import shutil

import keras
import pytest
from toy import experiment

from pipeline.files.checkpoints import newest_checkpoint
from pipeline.training.experiment import Options, train

pytestmark = pytest.mark.numerics
HALF = pytest.mark.needs("half precision")


@pytest.fixture(
    params=[
        pytest.param("float32", marks=pytest.mark.jax),
        pytest.param("mixed_bfloat16", marks=[pytest.mark.jax, HALF]),
        pytest.param("mixed_float16", marks=HALF),
    ]
)
def precision(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


TOY = experiment(affine={"shift": 0.1, "flip": True})


@pytest.fixture
def go_on(precision, tmp_path):
    """Trains, or goes on, with shifted and flipped images; returns the last checkpoint."""

    def go_on(name, epochs, workers):
        output = tmp_path / name
        options = {"resume": True, "every": 1, "precision": precision, "workers": workers}
        checkpoint = newest_checkpoint(output / "checkpoints")
        train(TOY, Options(output=str(output), epochs=epochs, **options), checkpoint)
        return (output / "checkpoints" / f"epoch_{epochs}.hdf5").read_bytes()

    return go_on


def test_resume_is_exact_whatever_the_precision_and_however_many_threads(go_on, tmp_path):
    straight = go_on("straight", epochs=3, workers=1)
    resumed = tmp_path / "resumed" / "checkpoints"
    resumed.mkdir(parents=True)
    shutil.copy(tmp_path / "straight" / "checkpoints" / "epoch_1.hdf5", resumed)
    go_on("resumed", epochs=2, workers=4)
    assert go_on("resumed", epochs=3, workers=1) == straight
