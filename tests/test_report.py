"""report.py on what runs have left."""

import json
import shutil
from pathlib import Path

import pytest
import toy
from htmlpage import Page
from processes import ROOT, refused, run

from pipeline.figures.curve import plot
from pipeline.training.experiment import Options, train

pytestmark = pytest.mark.thorough

PUBLISHED = ROOT / "output" / "results"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    train(toy.experiment(), Options(output=str(folder), epochs=2))
    return folder


@pytest.fixture
def output(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "small")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("named", ["", "toy.json", "toy_options.json"])
def test_page_and_curve_of_a_run_are_made_again(output, named):
    made = page, curve = output / "toy_report.html", output / "toy.pdf"
    before = [path.read_bytes() for path in made]
    for path in made:
        path.unlink()
    assert run("report.py", output / named) == f"page: {page}, curve: {curve}\n"
    assert [path.read_bytes() for path in made] == before


def test_what_a_terminal_would_obey_in_the_name_of_a_folder_is_shown(output, tmp_path):
    hostile = tmp_path / "\N{ESCAPE}[31mred"
    shutil.copytree(output, hostile)
    printed = run("report.py", hostile, output, "--output", hostile / "comparison.html")
    assert r"\x1b[31mred" in printed
    assert "\N{ESCAPE}" not in printed


def test_the_curve_for_papers_is_the_one_that_was_watched(output):
    record = json.loads((output / "toy_options.json").read_text())
    drawn_with = {
        "title": "toy, ResNet 1, filters 4-8",
        "validation": "test set",
        "regularized": True,
    }
    assert record["curve"] == drawn_with
    history = json.loads((output / "toy.json").read_text())
    assert (output / "toy.png").read_bytes() == plot(history, **drawn_with)
    assert (output / "toy.pdf").read_bytes() == plot(history, **drawn_with, format="pdf")


def test_the_curve_is_drawn_over_another_programs_history(output, tmp_path):
    measures = {"loss": [2.0, 1.0, 0.5], "val_acc": [0.25, 0.5, 0.75]}
    original = tmp_path / "original.json"
    original.write_text(json.dumps(measures))
    told = run("report.py", output, "--over", original)
    drawn = output / "toy_over_original.png"
    assert f"over {original}: {drawn}" in told
    record = json.loads((output / "toy_options.json").read_text())
    history = json.loads((output / "toy.json").read_text())
    named = {"loss": measures["loss"], "val_accuracy": measures["val_acc"]}
    assert drawn.read_bytes() == plot(history, **record["curve"], over=("original", named))

    original.write_text('{"mae": [1.0]}')
    assert "has none of loss, accuracy" in refused("report.py", output, "--over", original)
    missing = tmp_path / "none.json"
    assert str(missing) in refused("report.py", output, "--over", missing)


def test_a_run_of_an_earlier_version_has_a_page_of_what_is_there(tmp_path):
    folder = shutil.copytree(PUBLISHED / "cifar10_16-16-32-64_decay", tmp_path / "run")
    run("report.py", folder)
    page = Page((folder / "resnet_cifar10_decay_report.html").read_text())
    assert "85.68% of the validation images are classified correctly." in page.text
    assert "airplane 0.8406 0.8910 0.8650 1000" in page.text
    assert ["batch size", "128"] in page.rows


def test_several_runs_are_compared_on_one_page(output, tmp_path):
    other = shutil.copytree(output, tmp_path / "other")
    history = json.loads((other / "toy.json").read_text())
    (other / "toy.json").write_text(json.dumps({name: of[:1] for name, of in history.items()}))
    page = tmp_path / "pages" / "comparison.html"
    printed = run("report.py", output, other, output / "toy.json", "--output", page)
    assert [line.split()[0] for line in printed.splitlines()[4:6]] == ["small", "other"]
    assert f"comparison: {page}" in printed
    text = Page(page.read_text()).text
    assert text.startswith("2 runs compared")
    assert "Differences from small" in text


def test_a_folder_may_hold_several_runs(tmp_path):
    folder = shutil.copytree(PUBLISHED / "resnet18", tmp_path / "resnet18")
    page = tmp_path / "comparison.html"
    printed = run("report.py", folder, "-o", page)
    for name in ("resnet18_cifar10_keras_hub", "resnet18_cifar10_scratch"):
        assert (folder / f"{name}_report.html").exists()
        assert f"\n{name} " in printed


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("toy.json", "[", "toy.json is damaged or not a history"),
        ("toy_options.json", "[]", "toy_options.json is damaged or not a run's options"),
        ("toy_predictions.npz", "PK", "toy_predictions.npz is damaged or holds no predictions"),
    ],
)
def test_a_damaged_file_is_named_before_anything_is_written(
    output, tmp_path, file, content, complaint
):
    good = shutil.copytree(output, tmp_path / "good")
    (output / file).write_text(content)
    before = files(tmp_path)
    page = tmp_path / "comparison.html"
    assert complaint in refused("report.py", good, output, "-o", page)
    assert files(tmp_path) == before


def test_what_is_no_run_is_refused(output, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty holds no run" in refused("report.py", tmp_path / "empty")
    assert "toy.png is not a run: give" in refused("report.py", output / "toy.png")
    assert "nowhere.json is missing" in refused("report.py", tmp_path / "nowhere.json")
    assert ".html file" in refused("report.py", output, "-o", output / "toy.json")
    (output / "toy_options.json").unlink()
    assert "toy_options.json is missing" in refused("report.py", output / "toy.json")
    (output / "toy_options.json").write_text('{"options": {}, "parameters": 1}')
    (output / "toy.json").write_text('{"loss": [1.0]}')
    other = PUBLISHED / "cifar10_16-16-32-64_decay"
    complaint = refused("report.py", output, other / "resnet_cifar10_decay.json")
    assert "toy.json has no accuracy to compare" in complaint
