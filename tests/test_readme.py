"""What the README promises a newcomer: its commands work as they are written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from forkedscript import finish, start

from pipeline.io.digits import read_digits

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[1]


def blocks(language: str) -> list[str]:
    """The README's blocks of code, and those of the pages that it leads to."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "".join(page.read_text() for page in pages)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.M)


def commands(text: str) -> list[str]:
    return [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("python ")]


# The blocks with the embedded digits and with the miniatures are run; the others would train for
# hours on data that may not be here, and must get as far as looking for them.
DIGITS, MINIATURES = (
    next(block for block in blocks("sh") if text in block)
    for text in ("--dataset digits", "make_miniatures.py")
)
LONG = [c for block in blocks("sh") if block not in (DIGITS, MINIATURES) for c in commands(block)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the project to make a mess in."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    unwanted = shutil.ignore_patterns(".git", ".venv", "output", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    (folder / "output").mkdir()
    return folder


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_make_demo_reaches_95_percent_and_leaves_curve_and_report(clone):
    installed = f"{sys.prefix}/installed"
    # The environment is there already: it runs this test.
    done = run(["make", "--old-file", installed, f"VENV={sys.prefix}", "demo"], clone)
    assert done.returncode == 0, done.stderr
    report = (clone / "output" / "demo" / "resnet_cifar10_decay_report.txt").read_text()
    assert float(re.search(r"accuracy +(\d\.\d+)", report)[1]) >= 0.95
    assert (clone / "output" / "demo" / "resnet_cifar10_decay.png").stat().st_size > 10_000


@pytest.fixture
def run_as_written(clone, tmp_path):
    """Runs the commands of a block; returns what the last one printed."""

    def run_as_written(block):
        log = tmp_path / "log"
        for command in commands(block):
            script, *arguments = shlex.split(command)[1:]
            started = start(script, *arguments, log=log, first=partial(os.chdir, clone))
            assert finish(started) == 0, f"{command}\n{log.read_text()}"
        return log.read_text()

    return run_as_written


def test_the_digits_are_learnt_as_written(run_as_written, clone):
    run_as_written(DIGITS)
    tried = (clone / "output" / "try" / "resnet_cifar10.json").read_text()
    assert "[0.1, 0.1, 0.1, 0.01, 0.01]" in tried


def test_the_way_from_pictures_to_rank_accuracy_goes_as_written(run_as_written):
    printed = run_as_written(MINIATURES)
    assert "400 images" in printed
    assert re.search(r"rank-5: \d+\.\d\d%", printed)


@pytest.mark.parametrize("command", LONG)
def test_the_long_commands_get_as_far_as_their_data(command, clone, tmp_path):
    script, *arguments = shlex.split(command)[1:]
    source = "--data" if "cifar10" in script else "--hdf5"
    source = "--dataset-path" if "build" in script else source
    photographs = ("train_images.py", "build_images.py", "train_imagenet.py")
    source = "--images" if script in photographs else source
    source = "--model" if script in ("predict.py", "export.py") else source
    log = tmp_path / "log"
    started = start(script, *arguments, source, "nowhere", log=log, first=partial(os.chdir, clone))
    assert finish(started) == 2
    expected = (
        "nowhere|no such file|no checkpoint in|needs keras_hub|ONNX needs|a comparison takes two"
    )
    complaint = log.read_text().splitlines()[-1]
    assert re.search(expected, complaint), complaint


@pytest.fixture
def classified(monkeypatch):
    """Classifies a data set as the README shows; returns the names that it has by then."""

    def classified(folder):
        code = next(text for text in blocks("python") if "load_model" in text)
        monkeypatch.chdir(ROOT)
        names = {}
        exec(code.replace("read_cifar10()", f"read_cifar10({str(folder)!r})"), names)
        return names

    return classified


def test_the_published_model_classifies_as_shown(classified, cifar10_sample):
    names = classified(cifar10_sample)
    assert names["probabilities"].shape == (1000, 10)
    assert len(names["labels"]) == 1000
    assert {"airplane", "truck"} < set(names["spec"].label_names) >= set(names["labels"])


@pytest.mark.slow
@pytest.mark.needs("cifar10")
def test_the_published_model_has_its_accuracy(classified, real_cifar10):
    names = classified(real_cifar10)
    right = names["probabilities"].argmax(axis=1) == names["data"].val_labels
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"gets {right.mean():.2%} of CIFAR-10's test images right" in readme


def test_ten_lines_train_on_arrays_of_ones_own(monkeypatch, tmp_path):
    code = next(text for text in blocks("python") if "Experiment(" in text)
    digits = read_digits()
    names = {"train_labels": digits.train_labels % 2, "val_labels": digits.val_labels % 2}
    names |= {"train_images": digits.train_images, "val_images": digits.val_images}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert names["result"].predictions.accuracy > 0.7
    assert (tmp_path / "output" / "pets" / "pets.json").exists()


def test_every_link_leads_somewhere():
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_script_is_explained():
    readme = (ROOT / "README.md").read_text()
    for script in ROOT.glob("*.py"):
        assert f"python {script.name}" in readme, script.name
