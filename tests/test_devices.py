"""A run divided among several devices is the run of one device, but for the order of sums."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.backend.devices import Devices, grouped
from pipeline.errors import UserError

# How far two histories may be from each other, relatively, after the epochs trained here: sums of
# float32 are taken in another order, and training amplifies what that changes.
TOLERANCE = 1e-3

# Trains the toy experiment on two virtual devices of the CPU; a line of JSON tells what came of it.
DIVIDED = """
import json, os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
sys.path.insert(0, "tests")
from pipeline import backend
backend.start()
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    cpu, = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
from toy import experiment
from pipeline.files.modelfile import read_checkpoint
from pipeline.training.experiment import Options, train

RECIPE = {
    "nesterov": True, "schedule": "cosine", "warmup_epochs": 1, "label_smoothing": 0.1,
    "ema": 0.5, "flip": "random", "cutmix": 0.5, "batch_size": 10, "epochs": 3,
    "watched": False, "model": "toy.hdf5",
}

def run(output, devices, checkpoint=None):
    options = Options(output=output, devices=devices, every=1)
    result = train(experiment(**RECIPE), options, checkpoint and read_checkpoint(checkpoint))
    print(json.dumps([result.history, result.predictions.probabilities.tolist()]))
"""


@pytest.fixture
def divided(run_python):
    """Runs code behind `DIVIDED`; returns what it has printed, and what each `run` came to."""

    def divided(code, backend):
        pytest.importorskip(backend)
        done = run_python("-c", DIVIDED + code, KERAS_BACKEND=backend, JAX_PLATFORMS="cpu")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        return done.stdout, [json.loads(line) for line in lines if line.startswith("[")]

    return divided


def assert_close(ours, theirs):
    (history, probabilities), (other_history, other_probabilities) = ours, theirs
    assert history.keys() == other_history.keys()
    for measure, values in history.items():
        assert values == pytest.approx(other_history[measure], rel=TOLERANCE), measure
    np.testing.assert_allclose(probabilities, other_probabilities, atol=TOLERANCE)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_come_to_what_one_does(backend, divided, tmp_path):
    """The last validation batch has 4 of 10 images: what it is filled with must not count."""
    code = f"""
run(r"{tmp_path}/one", 1)
run(r"{tmp_path}/two", None)
run(r"{tmp_path}/more", 2, r"{tmp_path}/one/checkpoints/epoch_1.hdf5")
run(r"{tmp_path}/less", 1, r"{tmp_path}/two/checkpoints/epoch_2.hdf5")
"""
    printed, (one, two, more, less) = divided(code, backend)
    assert "batch 10 = 2 x 5" in printed
    assert (tmp_path / "two" / "toy.hdf5").exists()
    assert_close(one, two)
    assert_close(one, more)
    assert_close(one, less)


OVERFLOWS = """
import keras
from pipeline.backend import tensorflow_only

inputs = keras.Input((2,))
network = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
strategy = tf.distribute.MirroredStrategy()
with strategy.scope():
    variable = keras.Variable([0.0, 0.0])
    sgd = keras.optimizers.SGD(1.0, momentum=0.9)
    optimizer = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=4.0)
    optimizer.build([variable])
    tensorflow_only.use_fused_kernels(network, optimizer)

@tf.function
def step(where):
    def apply():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply([tf.where(replica == where, float("inf"), [4.0, 8.0])], [variable])
    strategy.run(apply)

for where in (1, 0, 2):
    step(where)
    print(json.dumps([v.numpy().tolist() for v in (variable, optimizer.dynamic_scale)]))
"""


@pytest.mark.thorough
def test_a_step_is_left_out_whichever_replicas_gradients_overflow(divided):
    _, after = divided(OVERFLOWS, "tensorflow")
    assert after == [[[0, 0], 2], [[0, 0], 1], [[-8, -16], 1]]


# what the devices cannot do


@pytest.mark.parametrize(
    ("batch_size", "images", "complaint"),
    [
        (100, 1000, "a batch of 100 images cannot be divided among 8 devices: choose 96 or 104"),
        (5, 1000, "a batch of 5 images cannot be divided among 8 devices: choose 8"),
        (64, 44, "a batch of 44 images cannot be divided among 8 devices: choose 40"),
        (64, 5, "a batch of 5 images cannot be divided among 8 devices: use fewer devices"),
    ],
)
def test_a_batch_that_they_cannot_divide_is_refused_with_those_that_they_can(
    batch_size, images, complaint
):
    devices = Devices(("GPU",) * 8)
    with pytest.raises(UserError, match=f"^{complaint}$"):
        devices.refuse_undivided(batch_size, images)
    devices.refuse_undivided(96, 1000)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_more_devices_than_there_are_are_refused(backend, run_python):
    code = "from pipeline.backend import available_devices; available_devices(2)"
    done = run_python("-c", code, KERAS_BACKEND=backend, JAX_PLATFORMS="cpu", XLA_FLAGS="")
    assert f"--devices 2, but Keras on {backend} can train on 1 here" in done.stderr


def test_processes_with_unequal_numbers_of_devices_are_refused(monkeypatch):
    jax_only = pytest.importorskip("pipeline.backend.jax_only")
    found = [SimpleNamespace(process_index=process) for process in (0, 0, 0, 1, 1)]
    monkeypatch.setattr(jax_only.jax, "devices", lambda: found)
    with pytest.raises(UserError, match="the processes have from 2 to 3 devices, and need as many"):
        jax_only.devices(None)


# what is said of them


def test_devices_of_one_name_are_counted():
    assert grouped(("A100", "T4", "A100")) == "2 x A100, T4"
    assert str(Devices(("A100",) * 4, process_count=2)) == "4 x A100 in 2 processes"
