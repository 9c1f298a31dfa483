"""The CIFAR-10 scripts as a user runs them: on pictures, in processes of their own, interrupted.

The contract is exact resume: however a run was stopped, its last checkpoint, history included, is
the same to the bit as that of a run that was not.
"""

import json
import re
import shlex
import shutil
import signal
from pathlib import Path

import cv2
import keras
import pytest
from processes import finish, interrupted, refused, run, start

from pipeline.files.modelfile import read_checkpoint

pytestmark = pytest.mark.thorough

TINY = ["--stages", "1", "--filters", "4", "8", "--batch-size", "128"]
EPOCHS = 5
EPOCH = re.compile(r"^ +(\d+/\d+) ", re.MULTILINE)  # opens the line of an epoch


def checkpoint(output: Path, epoch: int, folder: str = "checkpoints") -> Path:
    return output / folder / f"epoch_{epoch}.hdf5"


@pytest.fixture(scope="module")
def data(cifar10_sample):
    return ["--data", cifar10_sample]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, data):
    """A watched run that nobody stopped, with the checkpoints of epochs 2, 4 and 5."""
    output = tmp_path_factory.mktemp("straight")
    run("resnet_cifar10.py", *data, *TINY, "--epochs", EPOCHS, "--every", 2, "-o", output)
    return output


@pytest.fixture
def copied(straight, tmp_path):
    """A copy of that run to go on from."""
    return shutil.copytree(straight, tmp_path / "copy")


@pytest.fixture(scope="module")
def modern(tmp_path_factory, data):
    """A run by the modern recipe with all its checkpoints, and what it printed."""
    output = tmp_path_factory.mktemp("modern")
    options = [*data, *TINY, "--recipe", "modern", "--epochs", 3, "--every", 1, "-o", output]
    return output, run("resnet_cifar10_decay.py", *options)


def test_watched_training_goes_on_exactly_after_ctrl_c_a_termination_and_a_kill(
    straight, data, tmp_path
):
    options = [*data, *TINY, "--epochs", EPOCHS, "--every", 2, "--workers", 4, "-o", tmp_path]
    stop = {"epoch": 2, "number": signal.SIGINT, "forked": False}
    printed = interrupted("resnet_cifar10.py", *options, **stop)
    command = re.search(r"^  KERAS_BACKEND=tensorflow python (.*)$", printed, re.MULTILINE)[1]
    assert command.endswith("--resume --learning-rate 0.1")
    command = shlex.split(command)
    interrupted(*command, epoch=3, number=signal.SIGTERM)
    interrupted(*command, epoch=4, number=signal.SIGKILL)
    run(*command)

    assert checkpoint(tmp_path, 5).read_bytes() == checkpoint(straight, 5).read_bytes()
    name = "resnet_cifar10.json"
    assert (tmp_path / name).read_text() == (straight / name).read_text()


@pytest.mark.slow
def test_on_jax_the_modern_recipe_goes_on_exactly_after_a_kill(data, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    script = "resnet_cifar10_decay.py"
    options = [*data, *TINY, "--recipe", "modern", "--epochs", 3]
    run(script, *options, "-o", whole, backend="jax")
    stop = {"epoch": 2, "number": signal.SIGKILL, "forked": False, "backend": "jax"}
    interrupted(script, *options, "-o", pieces, **stop)
    run(script, "-o", pieces, "--resume", backend="jax")
    last = Path("checkpoints_decay", "epoch_3.hdf5")
    for file in (last, "resnet_cifar10.hdf5", "resnet_cifar10_decay.json"):
        assert (pieces / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("backends", [("jax", "tensorflow"), ("tensorflow", "jax")])
def test_one_backend_goes_on_amid_the_epoch_of_another(backends, data, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed")
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    script, (first, then) = "resnet_cifar10_decay.py", backends
    options = [*data, *TINY, "--recipe", "modern", "--epochs", 3]
    run(script, *options, "-o", whole, backend=first)
    stop = {"epoch": 2, "number": signal.SIGTERM, "forked": False, "backend": first}
    interrupted(script, *options, "-o", pieces, **stop)
    printed = run(script, "-o", pieces, "--resume", backend=then)
    assert "epoch 1 and batch 2 of the next" in printed
    assert f"  backend: {first} -> {then}" in printed
    ours, theirs = (
        json.loads((output / "resnet_cifar10_decay.json").read_text()) for output in (pieces, whole)
    )
    for measure in ("loss", "val_loss"):  # what differs in the last bits grows with every epoch
        assert ours[measure][:2] == pytest.approx(theirs[measure][:2], rel=0.01), measure


def test_the_modern_recipe_ends_with_its_averages_and_a_rate_of_zero(modern):
    output, printed = modern
    history = read_checkpoint(checkpoint(output, 3, "checkpoints_decay")).history
    # 15 steps an epoch: 22 of warm-up, half of the run, then a cosine to zero.
    assert history["learning_rate"][:2] == pytest.approx([0.2 * 14 / 22, 0.15406], abs=1e-5)
    assert history["learning_rate"][2] == 0
    accuracy = re.search(r"accuracy +(\d\.\d{4}) +1000", printed)[1]
    assert float(accuracy) == pytest.approx(history["val_accuracy"][-1], abs=1e-4)
    record = json.loads((output / "resnet_cifar10_decay_options.json").read_text())
    options = record["options"]
    recipe = options["recipe_parts"]
    assert (recipe["ema"], recipe["cutout"], options["epochs"]) == (0.999, 12, 3)
    assert keras.models.load_model(output / "resnet_cifar10.hdf5").count_params() > 0


def test_another_batch_size_on_resume_keeps_the_schedules_place(modern, tmp_path):
    first = checkpoint(tmp_path, 1, "checkpoints_decay")
    first.parent.mkdir()
    shutil.copy(checkpoint(modern[0], 1, "checkpoints_decay"), first)
    run("resnet_cifar10_decay.py", "-o", tmp_path, "--resume", "--batch-size", 256)
    rates = json.loads((tmp_path / "resnet_cifar10_decay.json").read_text())["learning_rate"]
    assert rates == pytest.approx([0.2 * 14 / 22, 0.15878, 0], abs=1e-4)


def test_a_run_leaves_history_curve_report_model_and_options(straight):
    history = json.loads((straight / "resnet_cifar10.json").read_text())
    measures = ["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(measures, 5)
    assert history["loss"][-1] < history["loss"][0]
    assert cv2.imread(str(straight / "resnet_cifar10.png")).shape[2] == 3

    report = (straight / "resnet_cifar10_report.txt").read_text()
    accuracy = re.search(r"accuracy +(\d\.\d{4}) +1000", report)[1]
    assert float(accuracy) == pytest.approx(history["val_accuracy"][-1], abs=1e-4)
    assert keras.models.load_model(straight / "resnet_cifar10_watched.hdf5").count_params() > 0
    record = json.loads((straight / "resnet_cifar10_options.json").read_text())
    assert record["options"]["filters"] == [4, 8]
    assert record["versions"]["keras"] == keras.__version__


def test_the_learning_rate_can_be_changed_from_any_kept_checkpoint(copied):
    printed = run(
        *("resnet_cifar10.py", "-o", copied, "--epochs", 3, "--learning-rate", 0.01),
        *("--model", checkpoint(copied, 2), "--start_epoch", 2),
    )
    assert "--learning-rate: 0.1 -> 0.01" in printed
    assert EPOCH.findall(printed) == ["3/3"]
    history = json.loads((copied / "resnet_cifar10.json").read_text())
    assert history["learning_rate"] == [0.1, 0.1, 0.01]
    # What the abandoned epochs had reached is still there.
    abandoned = read_checkpoint(copied / "checkpoints" / "abandoned_1" / "epoch_5.hdf5")
    assert abandoned.history["learning_rate"] == [0.1] * 5


def test_a_resumed_run_that_has_reached_its_epoch_only_reports(copied):
    printed = run("resnet_cifar10.py", "-o", copied, "--resume")
    assert not EPOCH.search(printed)
    assert "accuracy" in printed


def test_nothing_of_another_run_is_overwritten(straight, data):
    before = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    complaint = refused("resnet_cifar10.py", *data, *TINY, "-o", straight)
    assert "holds the 5 epochs of an earlier run" in complaint
    after = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    assert after == before


def test_a_checkpoint_of_another_network_is_refused(straight):
    going_on = ["resnet_cifar10.py", "-o", straight, "--resume"]
    complaint = refused(*going_on, "--filters", 4, 16)
    assert "--filters 4 8" in complaint
    assert "4 16" in complaint
    assert "--dataset cifar10" in refused(*going_on, "--dataset", "digits")


def test_a_start_epoch_that_contradicts_the_checkpoint_is_refused_with_both_numbers(straight):
    path = straight / "checkpoints" / "epoch_5.hdf5"
    complaint = refused("resnet_cifar10.py", "-o", straight, "--model", path, "-s", 40)
    assert "40" in complaint
    assert "5 epochs" in complaint


def test_resume_falls_back_to_the_checkpoint_before_a_damaged_one(copied):
    newest = checkpoint(copied, 5)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-1000])
    printed = run("resnet_cifar10.py", "-o", copied, "--resume")
    assert f"{newest} is truncated" in printed
    assert re.search(r"going on from .*epoch_4\.hdf5", printed)
    assert newest.read_bytes() == whole


def test_divergence_stops_with_epoch_batch_and_what_to_do(straight, tmp_path):
    good = checkpoint(tmp_path, 2)
    good.parent.mkdir()
    shutil.copy(checkpoint(straight, 2), good)
    complaint = refused(
        "resnet_cifar10.py", "-o", tmp_path, "--resume", "--epochs", 3, "--learning-rate", 1e30
    )
    assert re.search(r"the (validation )?loss is (nan|inf) in epoch 3, ", complaint)
    assert f"no epoch was completed after {good}" in complaint
    assert complaint.endswith("--resume --epochs 3 --learning-rate 1e+29\n")
    assert not checkpoint(tmp_path, 3).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere.hdf5"], "nowhere.hdf5: there is no such file"),
        (["--data", "nowhere"], "nowhere: there is no such file or folder"),
        (["--epochs", "0"], "--epochs: 0 is below 1"),
        (["--filters", "16", "16", "32"], "got 3 filters (16, 16, 32) for 3 stages"),
        (["--output", "README.md"], "--output README.md is a file: name a folder"),
        (["--resume", "--checkpoints", "nowhere"], "no checkpoint in nowhere: name the folder"),
        (["--learning-rate", "nan"], "nan is not a positive number"),
        (["--precision", "float8"], "invalid choice: 'float8'"),
        (["--output", "README.md/output"], "README.md/output: Not a directory"),
        (["--dataset", "digits", "--data", "."], "the digits come with scikit-learn"),
    ],
)
def test_wrong_input_takes_one_line(arguments, message, tmp_path):
    assert message in refused("resnet_cifar10.py", "-o", tmp_path, *arguments)
    assert not list(tmp_path.rglob("*.hdf5"))


def test_importing_tensorflow_adds_nothing_to_the_line(tmp_path):
    """The other refusals are of forked processes, which have it already."""
    done = finish(start("resnet_cifar10.py", "--data", "nowhere", "-o", tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: --data nowhere: there is no such file")
    assert done.stderr.count("\n") == 1
