"""What the tests share: the sample data, a tiny network, and how to start Python anew."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before anything imports Keras
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the scripts that the tests start

import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest


def pytest_configure(config):
    """Mutes a warning that Keras 3.15 on TensorFlow draws from NumPy 2."""
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


# Started in the background, a shell's children ignore Ctrl+C; those of the tests must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = Path(__file__).parents[1]
SAMPLES = PROJECT.parent / "shared" / "data"


def _sample(name: str) -> Path:
    path = SAMPLES / name
    if not path.is_dir():
        pytest.skip(f"the sample data are not there: {path}")
    return path


@pytest.fixture(scope="session")
def cifar10_sample():
    """Folder `{train,test}/<class>/*.png` with 2,000 and 1,000 real images of CIFAR-10."""
    return _sample("cifar10-sample")


@pytest.fixture(scope="session")
def tiny_imagenet_sample():
    """Tiny ImageNet's own layout with 10 training images of each of its 200 classes."""
    return _sample("tiny-imagenet-200-sample")


@pytest.fixture(scope="session")
def tiny_network():
    """Builds a classifier, a ResNet of one module for 8x8 RGB images: `tiny_network(classes=4)`."""

    def build(classes=4, filters=(4, 8), stages=(1,), momentum=0.9):
        import keras

        from pipeline.nn.conv import ResNet
        from pipeline.training.classifier import Classifier

        network = ResNet.build(8, 8, 3, classes, stages, filters)
        return Classifier(network, keras.optimizers.SGD(0.1, momentum=momentum))

    return build


@pytest.fixture(scope="session")
def tiny_images():
    """uint8 images (24, 8, 8, 3) and int32 labels of 4 classes."""
    rng = np.random.default_rng(3)
    labels = np.arange(24, dtype=np.int32) % 4
    noise = rng.integers(0, 64, (24, 8, 8, 3), dtype=np.uint8)
    return (noise + 48 * labels[:, None, None, None]).astype(np.uint8), labels


@pytest.fixture(scope="session")
def write_checkpoint(tiny_network):
    """Writes a real checkpoint: `write_checkpoint(folder / "epoch_3.hdf5", epoch=3)`."""
    model = tiny_network()
    model.optimizer.build(model.trainable_variables)

    def write(path, epoch, history=None, options=None):
        from pipeline.files.modelfile import save_checkpoint

        state = {"epoch": epoch, "history": history or {}, "options": options or {}}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, model, state)
        return path

    return write


@pytest.fixture
def small_disk():
    """Lets no file grow beyond a size in bytes, as on a full disk: `with small_disk(bytes):`."""

    @contextmanager
    def small_disk(size):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:  # at once, as the report of the tests may go to a file
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return small_disk


@pytest.fixture
def steps(monkeypatch):
    """The flushes and renames of this process, as they are made: `("fsync", "a")`."""
    steps = []

    def record(name):
        function = getattr(os, name)

        def call(*paths):
            names = [os.readlink(f"/proc/self/fd/{p}") if isinstance(p, int) else p for p in paths]
            steps.append((name, *(Path(name).name for name in names)))
            return function(*paths)

        monkeypatch.setattr(os, name, call)

    record("fsync")
    record("replace")
    return steps


@pytest.fixture(scope="session")
def run_python():
    """Runs Python in the project's folder: `run_python("script.py", "--help")`.

    The result has returncode, stdout and stderr; keywords are added to the environment, but for
    `input`, the text on stdin.
    """

    def run(*arguments, timeout=120, input=None, **environment):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=PROJECT,
            env=os.environ | environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
