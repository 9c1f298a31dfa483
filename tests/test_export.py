"""export.py as its users have it: each format in its own runtime, on real pictures."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from processes import refused, run
from sklearn.datasets import load_sample_images

from pipeline.errors import UserError
from pipeline.export.comparison import Comparison, compare
from pipeline.export.exporting import write
from pipeline.export.formats import FORMATS
from pipeline.export.pictures import labels_by_folder, read_pictures, sample_photographs
from pipeline.files.modelfile import save_model
from pipeline.nn.spec import NetworkSpec

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="the export runs on TensorFlow"
    ),
]

NAMES = ("temple", "flower", "cät")
MEAN_IMAGE = np.random.default_rng(3).uniform(60, 180, (8, 8, 3)).astype(np.float32)
FILES = {"saved_model": "saved_model", "onnx": "model.onnx", "litert": "model.tflite"}


@pytest.fixture(params=FORMATS)
def target(request):
    """Each format that is installed here."""
    for package in (FORMATS[request.param].runtime, *FORMATS[request.param].converters):
        pytest.importorskip(package, reason=f"{package} is not installed")
    return request.param


@pytest.fixture(scope="module")
def network():
    """A network that tells pictures apart, though nobody has trained it."""
    keras.utils.set_random_seed(4)
    spec = NetworkSpec("resnet", (8, 8, 3), NAMES, MEAN_IMAGE, "cifar10", (1,), (4, 8), 0.75)
    return spec.build(), spec


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.hdf5"
    save_model(path, *network)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The temple and the flower, each in a folder named by its class, and in half its size too."""
    root = tmp_path_factory.mktemp("pictures")
    for name, image in zip(NAMES, load_sample_images().images, strict=False):
        (root / name).mkdir()
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(root / name / "whole.jpg"), picture)
        cv2.imwrite(str(root / name / "half.png"), picture[:, 100:400:2])
    return root


# the whole way


def test_an_export_classifies_without_keras_and_without_this_project_as_predict_does(
    target, model, network, pictures, tmp_path
):
    folder = tmp_path / "an export"
    printed = run("export.py", "-m", model, "-f", target, "-o", folder, "--pictures", pictures)
    on_photographs, on_pictures = printed.splitlines()[1:3]
    assert on_photographs.startswith("sample photographs: 62 pictures, probabilities differ")
    assert on_pictures.startswith(f"{pictures}: 4 pictures, probabilities differ")
    assert printed.splitlines()[3:] == [
        f"written: {folder}; to use it: python '{folder}/classify.py' PICTURE..."
    ]
    files = {"classify.py", "network.py", "preprocess.json", FILES[target]}
    assert {path.name for path in folder.iterdir()} == files

    files = sorted(str(file) for file in pictures.rglob("*.*"))
    python = without_keras(tmp_path / "packages", tensorflow=target == "saved_model")
    for package in ("keras", "pipeline"):
        assert "ModuleNotFoundError" in python("-c", f"import {package}").stderr
    done = python(folder / "classify.py", *files)
    assert done.returncode == 0, done.stderr
    theirs = done.stdout.splitlines()
    ours = run("predict.py", "-m", model, "--top", 1, *files).splitlines()[:4]
    assert len(theirs) == 4
    for our_line, their_line in zip(ours, theirs, strict=True):
        (ours_percent, *ours_rest), (percent, *rest) = our_line.split(), their_line.split()
        assert rest == ours_rest
        assert float(percent[:-1]) == pytest.approx(float(ours_percent[:-1]), abs=0.02)
    strange = shutil.copy(files[0], tmp_path / os.fsdecode(b"\xff.png"))
    done = python(folder / "classify.py", strange)
    assert (done.returncode, done.stdout.split()[0]) == (0, theirs[0].split()[0])
    done = python(folder / "classify.py", tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{tmp_path} is missing, or not a picture\n")
    code = "import sys, classify; print([classify.read(file).tolist() for file in sys.argv[1:]])"
    pixels = json.loads(python("-c", code, *files, cwd=folder).stdout)
    np.testing.assert_array_equal(pixels, next(read_pictures(files, network[1])))

    about = json.loads((folder / "preprocess.json").read_text())
    assert (about["width"], about["height"], about["labels"]) == (8, 8, list(NAMES))
    assert about["inside the network"] == "the mean image of the training set is subtracted"
    assert about["compared with Keras"]["sample photographs"]["largest_difference"] <= 1e-4
    accuracy = about["compared with Keras"][str(pictures)]["accuracies"][0]
    assert f"; {accuracy:.2%} right, Keras's {accuracy:.2%}" in on_pictures


def without_keras(folder: Path, tensorflow: bool) -> Callable[..., subprocess.CompletedProcess]:
    """Makes an environment without Keras, this project and what converts; returns its Python."""
    folder.mkdir()
    absent = {"keras", "tf2onnx", "onnx", "h5py"} | (set() if tensorflow else {"tensorflow"})
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if package.name.split("-")[0] not in absent:
            (folder / package.name).symlink_to(package)

    def python(*arguments, cwd=folder):
        return subprocess.run(
            [sys.executable, "-S", *map(str, arguments)],
            cwd=cwd,
            env={"PYTHONPATH": str(folder), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )

    return python


# the network


@pytest.mark.parametrize("mean", [MEAN_IMAGE, np.array([90, 100, 110], np.float32), None])
def test_pixels_are_normalized_inside(mean, target, network, tmp_path):
    spec = replace(network[1], mean=mean)
    exported = write(tmp_path, network[0], spec, FORMATS[target])
    images = sample_photographs(spec)
    expected = network[0].predict(
        images - mean if mean is not None else images / 255, batch_size=len(images), verbose=0
    )
    for count in (1, 2, len(images)):
        np.testing.assert_allclose(exported(images[:count]), expected[:count], atol=1e-5)


def test_an_int8_network_computes_in_integers_and_its_agreement_is_stated(
    model, pictures, network, tmp_path
):
    interpreter = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="ai_edge_litert is not installed"
    )
    folder = tmp_path / "int8"
    options = ("--int8", pictures, "--pictures", pictures)
    printed = run("export.py", "-m", model, "-f", "litert", "-o", folder, *options)
    assert re.search(r"4 pictures, .* the same class in \d+\.\d\d%; \d+\.\d\d% right", printed)
    about = json.loads((folder / "preprocess.json").read_text())
    assert about["computed in"] == "int8"
    assert about["compared with Keras"]["sample photographs"]["largest_difference"] > 0
    details = interpreter.Interpreter(str(folder / "model.tflite")).get_tensor_details()
    images = [x for x in details if len(x["shape"]) == 4]
    in_float = [tuple(x["shape"]) for x in images if x["dtype"] == np.float32]
    assert (in_float, len(images) > 10) == ([(1, 8, 8, 3)], True)  # only what comes in


# the comparison


def test_an_export_that_differs_is_refused_and_nothing_of_it_is_left(run_python, model, tmp_path):
    strict = "import runpy, sys; from pipeline.export import comparison; comparison.LIMIT = -1; "
    go = "sys.argv = ['export.py', *sys.argv[1:]]; runpy.run_path('export.py', run_name='__main__')"
    options = ("-m", model, "-f", "saved_model", "-o", tmp_path / "export")
    done = run_python("-c", strict + go, *options)
    assert done.returncode == 2
    assert "error: the exported network was not kept: its probabilities differ" in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_networks_answers_do_not_pass_for_rounding(network, tmp_path):
    built, spec = network
    exported = write(tmp_path, built, spec, FORMATS["saved_model"])
    images = sample_photographs(spec)
    compare(exported, built, spec, [images]).require_equality()
    another = spec.build()
    with pytest.raises(UserError, match="differ from Keras's by up to"):
        compare(exported, another, spec, [images]).require_equality()
    shifted = replace(spec, mean=spec.mean + 1)
    with pytest.raises(UserError, match="differ from Keras's by up to"):
        compare(exported, built, shifted, [images]).require_equality()


def test_nan_is_no_answer():
    with pytest.raises(UserError, match="by up to nan"):
        Comparison(1, float("nan"), 1.0, None).require_equality()


def test_agreement_and_accuracies_are_counted(network, pictures, capsys):
    built, spec = network
    files = sorted(str(file) for file in pictures.rglob("*.*"))
    labels = labels_by_folder(pictures, files, NAMES)
    assert labels.tolist() == [1, 1, 0, 0]
    assert labels_by_folder(pictures / "temple", files[2:], NAMES).tolist() == [0, 0]
    below = [str(pictures / "temple" / "flower" / "x.png")]
    assert labels_by_folder(pictures, below, NAMES).tolist() == [NAMES.index("temple")]
    assert labels_by_folder(pictures, [*files, str(pictures / "x.png")], NAMES) is None
    assert "x.png is in no folder that is called as one of the classes" in capsys.readouterr().out

    def always_temple(images):
        return np.eye(3, dtype=np.float32)[np.zeros(len(images), int)]

    comparison = compare(always_temple, built, spec, read_pictures(files, spec), labels)
    kerass = built.predict(
        spec.preprocessor.preprocess(np.concatenate(list(read_pictures(files, spec)))), verbose=0
    ).argmax(axis=1)
    assert comparison.pictures == 4
    assert comparison.accuracies == (0.5, (kerass == labels).mean())
    assert comparison.agreement == (kerass == 0).mean()


# what cannot be done


@pytest.fixture
def export(model, tmp_path):
    """The options of an export that could be written."""
    return ["--model", model, "--format", "saved_model", "--output", tmp_path / "export"]


def test_an_existing_folder_is_replaced_only_if_asked_for_and_if_it_is_an_export(export, tmp_path):
    folder = tmp_path / "export"
    run("export.py", *export)
    (folder / "preprocess.json").write_text("old")
    assert "exists already: --overwrite replaces it, or name a new folder" in refused(
        "export.py", *export
    )
    assert (folder / "preprocess.json").read_text() == "old"
    run("export.py", *export, "--overwrite")
    assert json.loads((folder / "preprocess.json").read_text())["format"] == "SavedModel"

    network = tmp_path / "model.onnx"  # called as the network in an export is
    network.write_text("a file")
    options = [*export[:-1], network, "--overwrite"]
    assert f"{network} is a file: name a new folder" in refused("export.py", *options)
    assert network.read_text() == "a file"

    (folder / "thesis.txt").write_text("years of work")
    complaint = refused("export.py", *export, "--overwrite")
    assert complaint.startswith(f"error: {folder}/thesis.txt is not of an export")
    assert (folder / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--output", "nowhere/export"], "there is no folder nowhere, make it first"),
        (["--output", "export.py", "--overwrite"], "export.py is a file: name a new folder"),
        (["--format", "pickle"], "invalid choice: 'pickle'"),
        (["--model", "nowhere.hdf5"], "nowhere.hdf5: there is no such file"),
        (["--model", "export.py"], "export.py is truncated, damaged or not written by"),
        (["--pictures", "nowhere"], "nowhere: there is no such folder, or no pictures in it"),
        (["--int8", "config"], "--int8 is for --format litert"),
        (["--int8", "config", "--format", "litert"], "config: there is no such folder, or no"),
    ],
)
def test_wrong_input_takes_one_line(options, complaint, export, tmp_path):
    if "litert" in options:
        pytest.importorskip("ai_edge_litert", reason="ai_edge_litert is not installed")
    assert complaint in refused("export.py", *export, *options)
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_say_what_it_is_is_refused(export, network, tmp_path):
    save_model(tmp_path / "old.hdf5", network[0])
    complaint = refused("export.py", *export, "--model", tmp_path / "old.hdf5")
    assert "old.hdf5 does not say what network it holds" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["old.hdf5"]


def test_a_bad_picture_is_named_and_nothing_is_written(export, pictures, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "text.png").write_text("no picture")
    complaint = refused("export.py", *export, "--pictures", tmp_path / "pictures")
    assert "text.png is truncated, damaged or not an image" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize("target", ["onnx", "litert"])
def test_missing_packages_are_named_with_what_installs_them(target, export, run_python):
    packages = {"onnx": "onnxruntime and tf2onnx", "litert": "ai_edge_litert"}[target]
    hide = f"import sys; sys.modules |= dict.fromkeys({packages.split(' and ')!r}); "
    go = "sys.argv = ['export.py', *sys.argv[1:]]; import export; export.script.run(export.main)"
    done = run_python("-c", hide + go, *export, "--format", target)
    assert done.returncode == 2
    needs = f"{FORMATS[target].title} needs {packages}"
    install = "install with pip install '.[export]'"
    assert done.stderr == f"error: {needs}: {install}\n"


def test_it_runs_on_tensorflow_whatever_the_backend(export, run_python):
    done = run_python("export.py", *export, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[:2]
    assert first == "exporting on TensorFlow, whatever trained the model, not on jax"
    assert " on tensorflow " in second
    assert done.stderr == ""
