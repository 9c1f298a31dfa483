"""What the tests share: data in miniature, a tiny network, and how to start Python anew."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before anything imports Keras
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the scripts that the tests start

import fcntl
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).parents[1]
DATA_SETS = PROJECT.parent / "datasets"  # where the README has them


def pytest_configure(config):
    """Mutes a warning that Keras 3.15 on TensorFlow draws from NumPy 2."""
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


# Started in the background, a shell's children ignore Ctrl+C; those of the tests must not.
signal.signal(signal.SIGINT, signal.default_int_handler)


def can_mount() -> bool:
    command = ["unshare", "--mount", "true"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, stderr=subprocess.DEVNULL).returncode
    )


# What a test may need and a machine may lack, and whether this one has it.
NEEDS = {
    "cifar10": (DATA_SETS / "cifar10").is_dir,
    "tiny-imagenet-200": (DATA_SETS / "tiny-imagenet-200").is_dir,
    "mount": can_mount,
    # By the processor, TensorFlow takes it that oneDNN can; it cannot where it was told to do
    # without those instructions.
    "half precision": lambda: "ONEDNN_MAX_CPU_ISA" not in os.environ,
}


def pytest_collection_modifyitems(config, items):
    """Deselects the tests that are marked with `needs` and cannot have it."""
    needed = {need for item in items for mark in item.iter_markers("needs") for need in mark.args}
    missing = {need for need in needed if not NEEDS[need]()}

    def lacks(item):
        return any(missing & set(mark.args) for mark in item.iter_markers("needs"))

    config.hook.pytest_deselected(items=[item for item in items if lacks(item)])
    items[:] = [item for item in items if not lacks(item)]


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory):
    """Folder of cifar10 and tiny-imagenet-200 in miniature; made once for all of xdist's workers.

    With what Finder leaves behind in folders that it has shown.
    """
    from pipeline.io.miniatures import write_cifar10, write_tiny_imagenet

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "miniatures"
    with open(shared / "miniatures.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            write_cifar10(folder / "cifar10")
            write_tiny_imagenet(folder / "tiny-imagenet-200")
            for place in ("cifar10/train", "tiny-imagenet-200/train", "tiny-imagenet-200/val"):
                (folder / place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    return folder


@pytest.fixture(scope="session")
def cifar10_sample(miniatures):
    """Folder `{train,test}/<class>/*.png` with 2,000 and 1,000 images of 10 classes."""
    return miniatures / "cifar10"


@pytest.fixture(scope="session")
def tiny_imagenet_sample(miniatures):
    """Tiny ImageNet's own layout with 10 and 5 images of each of 200 classes."""
    return miniatures / "tiny-imagenet-200"


@pytest.fixture(scope="session")
def photograph_folder(tmp_path_factory):
    """120 photographs: windows of the temple and of the flower."""
    from pipeline.io.miniatures import write_photographs

    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder)
    return folder


@pytest.fixture(scope="session")
def real_cifar10():
    """CIFAR-10 as a folder of pictures, for tests that need it."""
    return DATA_SETS / "cifar10"


@pytest.fixture(scope="session")
def real_tiny_imagenet():
    """Tiny ImageNet, for tests that need it."""
    return DATA_SETS / "tiny-imagenet-200"


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

    def write(path, epoch, history=None, options=None, batch=0):
        from pipeline.files.modelfile import save_checkpoint

        state = {"epoch": epoch, "history": history or {}, "options": options or {}, "batch": batch}
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

    def run(*arguments, timeout=600, input=None, **environment):
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
