"""The ResNet-18 script as a user runs it, on a few real images and in processes of its own."""

import importlib.util
import json
import re
import shutil
from functools import partial
from pathlib import Path

import keras
import pytest
from processes import run

import resnet18_cifar10
from pipeline.command_line import options, resuming
from pipeline.errors import UserError
from pipeline.files.modelfile import read_checkpoint

pytestmark = pytest.mark.thorough

SCRIPT = "resnet18_cifar10.py"
RECIPE = ("--batch-size", 32, "--recipe", "augmented", "--every", 1)
CHECKPOINTS = "checkpoints_resnet18_scratch"


@pytest.fixture(scope="module")
def data(cifar10_sample, tmp_path_factory):
    """A folder of 100 training and 20 test images."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 10), ("test", 2)):
        for label in (cifar10_sample / split).iterdir():
            (folder / split / label.name).mkdir(parents=True)
            for image in sorted(label.glob("*.png"))[:count]:
                (folder / split / label.name / image.name).symlink_to(image)
    return folder


@pytest.fixture(scope="module")
def train():
    return partial(run, SCRIPT)


@pytest.fixture(scope="module")
def straight(data, train, tmp_path_factory):
    """The results of two epochs in one go."""
    output = tmp_path_factory.mktemp("straight")
    train(*RECIPE, "--data", data, "--epochs", 2, "-o", output)
    return output


def results(output: Path, model: str = "scratch") -> tuple[dict, dict]:
    """History and record of a run."""
    names = (f"resnet18_cifar10_{model}.json", f"resnet18_cifar10_{model}_options.json")
    return tuple(json.loads((output / name).read_text()) for name in names)


def test_a_run_leaves_its_results_under_the_models_name(straight):
    history, record = results(straight)
    assert history["learning_rate"] == [0.01, 0.005]
    assert record["parameters"] == 11_191_242
    assert len(record["images_per_second"]) == 2
    assert record["options"]["recipe"] == "augmented"
    assert (straight / "resnet18_cifar10_scratch.png").stat().st_size > 0
    report = (straight / "resnet18_cifar10_scratch_report.txt").read_text()
    accuracy = re.search(r"accuracy +(\d\.\d{4}) +20", report)[1]
    assert float(accuracy) == pytest.approx(history["val_accuracy"][-1], abs=1e-4)


def test_a_resumed_run_remembers_its_recipe_and_ends_like_one_that_was_not(
    straight, train, tmp_path
):
    first, last = Path(CHECKPOINTS, "epoch_1.hdf5"), Path(CHECKPOINTS, "epoch_2.hdf5")
    (tmp_path / CHECKPOINTS).mkdir()
    shutil.copy(straight / first, tmp_path / first)  # as if the run had been killed here
    train("--resume", "-o", tmp_path)
    assert results(tmp_path)[0] == results(straight)[0]
    assert (tmp_path / last).read_bytes() == (straight / last).read_bytes()
    remembered = read_checkpoint(tmp_path / last).options
    assert remembered["recipe"] == "augmented"
    keras.models.load_model(tmp_path / last)


def test_keras_hubs_network_trains_beside_it_and_comes_to_the_same(straight, data, train):
    """One seed gives both the same weights, so that they go the same way."""
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    train(*RECIPE, "--data", data, "--epochs", 2, "-o", straight, "--model", "keras_hub")
    ours, theirs = results(straight)[0], results(straight, "keras_hub")[0]
    for measure, values in ours.items():
        assert theirs[measure] == pytest.approx(values, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "package", "command"),
    [
        ("keras_hub", "keras_hub", "pip install '.[keras-hub]'"),
        ("torchvision", "torchvision", "pip install torch torchvision"),
    ],
)
def test_a_missing_library_takes_one_line_that_says_what_to_install(
    model, package, command, run_python, tmp_path
):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    done = run_python(SCRIPT, "--model", model, "-o", tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"error: --model {model} needs .*{package}: {re.escape(command)}\n", done.stderr
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run_with_packages(run_python, tmp_path):
    """Starts the script's torchvision run, with packages that only tell of their import."""

    def run_with_packages(backend):
        for package in ("torch", "torchvision"):
            file = tmp_path / "packages" / package / "__init__.py"
            file.parent.mkdir(parents=True)
            file.write_text("raise SystemExit(f'importing {__name__}')")
        environment = {"PYTHONPATH": str(tmp_path / "packages"), "KERAS_BACKEND": backend}
        options = ("--model", "torchvision", "-o", tmp_path / "output")
        return run_python(SCRIPT, *options, **environment)

    return run_with_packages


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_torchvisions_network_is_refused_on_another_backend(run_with_packages, backend, tmp_path):
    done = run_with_packages(backend)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --model torchvision runs on PyTorch, and KERAS_BACKEND is {backend}: leave it "
        "out, or set it to torch\n"
    )
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("backend", ["", "torch"])
def test_torchvisions_network_runs_on_pytorch(run_with_packages, backend):
    assert run_with_packages(backend).stderr == "importing torch\n"


def test_options_of_other_networks_are_refused(run_python, tmp_path):
    done = run_python(SCRIPT, "--stages", 2, 2, "-o", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unrecognized arguments: --stages 2 2")


def test_the_command_to_go_on_keeps_the_model(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    command = [SCRIPT, "--model", "keras_hub", "--batch-size", "32"]
    again = resuming.command_to_go_on(command, watched=False)
    assert again == f"python {' '.join(command)} --resume"


def test_checkpoints_that_remember_the_former_options_go_on_with_the_same_recipe(
    tmp_path, write_checkpoint
):
    def resumed(**former):
        saved = {"script": SCRIPT, "model": "scratch", "dataset": "digits", **former}
        path = write_checkpoint(tmp_path / CHECKPOINTS / "epoch_1.hdf5", 1, options=saved)
        experiment = resnet18_cifar10.config.EXPERIMENTS["scratch"]
        parser = options.training_parser("", experiment)
        parser.prog = SCRIPT
        argv = ["--resume", "--checkpoints", str(path.parent)]
        return resuming.parse_training(parser, experiment, argv)[0].recipe

    assert resumed(augment=False, schedule="constant") == "faithful"
    assert resumed(augment=True, schedule="linear") == "augmented"
    for former in ({"augment": True, "schedule": "constant"}, {"schedule": "linear"}):
        with pytest.raises(UserError, match="recipe that there no longer is"):
            resumed(**former)
