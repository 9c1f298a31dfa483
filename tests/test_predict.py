"""predict.py on real pictures, as a user or another program would call it."""

import csv
import io
import json
import shutil

import cv2
import keras
import numpy as np
import pytest
from processes import run_forked
from sklearn.datasets import load_sample_images

from pipeline.files.modelfile import save_model
from pipeline.nn.spec import NetworkSpec
from pipeline.preprocessing.centrecrop import CentreCrop

pytestmark = pytest.mark.thorough

NAMES = ("temple", "flower", "cät\x1b[2J")


@pytest.fixture(scope="module")
def network():
    """A network that tells colours apart, though nobody has trained it."""
    keras.utils.set_random_seed(4)
    mean = np.array([90, 100, 110], np.float32)
    spec = NetworkSpec("resnet", (8, 8, 3), NAMES, mean, "cifar10", (1,), (4, 8))
    return spec.build(), spec


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.hdf5"
    save_model(path, *network)
    return path


def test_a_network_may_be_for_images_that_are_wider_than_high(pictures, tmp_path):
    spec = NetworkSpec("resnet", (8, 16, 3), NAMES, None, "imagenet", (1,), (4, 8))
    save_model(tmp_path / "model.hdf5", spec.build(), spec)
    done = run_forked("predict.py", "--model", tmp_path / "model.hdf5", pictures, "--json")
    assert len(json.loads(done.stdout)) == 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with the temple as JPEG, and in a folder below the flower as grayscale PNG."""
    folder = tmp_path_factory.mktemp("pictures")
    temple, flower = (
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in load_sample_images().images
    )
    cv2.imwrite(str(folder / "temple.jpg"), temple)
    (folder / "below").mkdir()
    cv2.imwrite(str(folder / "below" / "flower.png"), cv2.cvtColor(flower, cv2.COLOR_BGR2GRAY))
    return folder


@pytest.fixture(scope="module")
def predict(model):
    def predict(*arguments, status=0, run=run_forked):
        done = run("predict.py", "--model", model, *arguments)
        assert done.returncode == status, done.stderr
        return done

    return predict


def expected(network, file):
    """The probabilities, computed step by step."""
    model, spec = network
    image = CentreCrop(8, 8).preprocess(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB))
    return model.predict(image[None] - spec.mean, verbose=0)[0]


def test_programs_get_every_picture_of_a_folder_with_its_probabilities(
    predict, run_python, network, pictures
):
    # Not forked: nothing that a library says at its import is to be among the results.
    results = json.loads(predict(pictures, "--json", run=run_python).stdout)
    files = [pictures / "below" / "flower.png", pictures / "temple.jpg"]
    assert [result["picture"] for result in results] == [str(file) for file in files]
    for result, file in zip(results, files, strict=True):
        probabilities = expected(network, file)
        order = np.argsort(-probabilities)
        assert [p["label"] for p in result["predictions"]] == [NAMES[label] for label in order]
        found = [p["probability"] for p in result["predictions"]]
        assert found == pytest.approx(probabilities[order].tolist(), abs=1e-5)


def test_csv_goes_into_a_spreadsheet(predict, network, pictures):
    file = pictures / "temple.jpg"
    header, *rows = csv.reader(io.StringIO(predict(file, "--csv", "--top", 2).stdout))
    assert header == ["picture", "rank", "label", "probability"]
    probabilities = sorted(expected(network, file), reverse=True)
    assert [row[:2] for row in rows] == [[str(file), "1"], [str(file), "2"]]
    assert [float(row[3]) for row in rows] == pytest.approx(probabilities[:2], abs=1e-5)


def test_people_get_a_few_lines_that_a_terminal_shows_as_they_are(predict, network, pictures):
    file = pictures / "temple.jpg"
    name, *lines = predict(file).stdout.splitlines()
    assert name == str(file)
    assert len(lines) == 3
    assert any(line.endswith(r"  cät\x1b[2J") for line in lines)
    (line,) = predict(file, "--top", 1).stdout.splitlines()
    assert line.startswith(f"{expected(network, file).max():7.2%}  ")
    assert line.endswith(f"  {file}")


def test_what_cannot_be_read_is_named_and_the_rest_is_classified(predict, pictures, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    arguments = [tmp_path / "text.png", pictures / "temple.jpg", "nowhere.png", tmp_path / "empty"]
    done = predict(*arguments, "--json", status=1)
    assert [result["picture"] for result in json.loads(done.stdout)] == [str(arguments[1])]
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: nowhere.png: there is no such file or folder",
        f"warning: {tmp_path / 'empty'} has no pictures in it",
        f"warning: {tmp_path / 'text.png'} is truncated, damaged or not an image",
    ]


def test_that_there_is_nothing_to_classify_is_told_before_tensorflow_is_loaded(predict, run_python):
    done = predict("nowhere.png", status=2, run=run_python)
    assert done.stderr.splitlines() == [  # and nothing of what TensorFlow runs on
        "warning: nowhere.png: there is no such file or folder",
        "error: none of the pictures could be classified",
    ]
    done = run_python("predict.py", "--model", "nowhere.hdf5", "README.md")
    assert done.returncode == 2
    missing = "nowhere.hdf5: there is no such file (see predict.py --help)"
    assert done.stderr == f"error: argument -m/--model: {missing}\n"


def test_the_evidence_is_drawn(predict, pictures, tmp_path):
    folder, long = tmp_path / "why", tmp_path / f"{'花' * 82}.jpg"
    shutil.copy(pictures / "temple.jpg", long)
    predict(pictures, long, "--explain", folder)
    names = ["0001_flower.png", "0002_temple.png", f"0003_{'花' * 66}.png"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert cv2.imread(str(folder / "0002_temple.png")).shape == (256, 512, 3)
    done = predict(pictures, "--explain", folder, status=2)
    assert done.stderr == f"error: --explain {folder} exists already: name a new folder\n"


def test_a_file_that_is_no_model_is_refused_in_one_line(pictures):
    done = run_forked("predict.py", "--model", pictures / "temple.jpg", pictures / "temple.jpg")
    assert done.returncode == 2
    assert "temple.jpg is truncated, damaged or not written by this project" in done.stderr
