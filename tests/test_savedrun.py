"""What is kept of a run, and its page made again of that."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import toy
from sklearn.datasets import load_digits

from pipeline.augmentation.geometry import RandomFlip
from pipeline.batches import TrainingBatches
from pipeline.errors import UserError
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.savedrun import KeptPredictions, SavedRun, read_record
from pipeline.training.experiment import Options, train


@pytest.fixture(scope="module")
def kept():
    """Predictions for real digits, of which two are mistaken."""
    images = np.repeat((load_digits().images[:4] * 15).astype(np.uint8)[..., None], 3, axis=-1)
    probabilities = np.eye(4, dtype=np.float32)[[0, 1, 1, 1]]
    predictions = Predictions(probabilities, np.arange(4, dtype=np.int32), ("a", "b", "<i>", "é"))
    return KeptPredictions(predictions, 7, {3: images[3], 2: images[2]}, images[:3])


def test_what_is_kept_comes_back(kept, tmp_path):
    kept.write(tmp_path / "kept.npz")
    again = KeptPredictions.read(tmp_path / "kept.npz")
    assert again.predictions.label_names == kept.predictions.label_names
    for name in ("probabilities", "labels"):
        ours, theirs = getattr(again.predictions, name), getattr(kept.predictions, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert again.epochs == 7
    assert list(again.mistakes) == [3, 2]
    np.testing.assert_array_equal(again.mistakes[2], kept.mistakes[2])
    np.testing.assert_array_equal(again.augmented, kept.augmented)


def test_predictions_without_pictures_come_back(kept, tmp_path):
    KeptPredictions(kept.predictions, 7).write(tmp_path / "kept.npz")
    again = KeptPredictions.read(tmp_path / "kept.npz")
    assert again.mistakes == {}
    assert len(again.augmented) == 0


def test_the_same_predictions_make_the_same_file(kept, tmp_path):
    for name in ("a.npz", "b.npz"):
        kept.write(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": np.eye(3, dtype=np.float32)},
        {"probabilities": np.full((4, 4), np.nan, np.float32)},
        {"probabilities": np.array([{}])},  # pickled
        {"labels": np.arange(1, 5)},
        {"label_names": np.array(["a", "b"])},
        {"label_names": np.arange(4)},
        {"epochs": np.arange(2)},
        {"mistakes": np.array([3, 4])},
        {"mistakes": np.array([3])},
        {"mistaken_images": np.zeros((2, 8, 8), np.uint8)},
        {"augmented_images": np.zeros((3, 8, 8, 3), np.float32)},
        {"augmented_images": np.zeros((3, 0, 8, 3), np.uint8)},
    ],
)
def test_arrays_that_are_something_else_are_refused(kept, tmp_path, change):
    path = tmp_path / "kept.npz"
    kept.write(path)
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, **change})
    with pytest.raises(UserError, match=r"kept\.npz is damaged or holds no predictions .*; move"):
        KeptPredictions.read(path)


def test_a_damaged_file_is_refused_wherever_it_ends(kept, tmp_path):
    path = tmp_path / "kept.npz"
    kept.write(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="is damaged"):
            KeptPredictions.read(path)
    for place in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:  # not every byte of an archive means something
            KeptPredictions.read(path)
        except UserError as error:
            assert "is damaged" in str(error)  # noqa: PT017


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "kept.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("probabilities.npy", "labels.npy"):
            archive.writestr(name, bytes(300_000_000))
    with pytest.raises(UserError, match="too large"):
        KeptPredictions.read(tmp_path / "kept.npz")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"parameters": 1}',
        '{"options": {}}',
        '{"options": [], "parameters": 1}',
        '{"options": {}, "parameters": "many"}',
        '{"options": {}, "parameters": 1, "images_per_second": ["fast"]}',
        '{"options": {}, "parameters": 1, "devices": [3]}',
        '{"options": {}, "parameters": 1, "devices": 3}',
        '{"options": {}, "parameters": 1, "seconds": NaN}',
        '{"options": {}, "parameters": 1, "processor": "fast"}',
        '{"options": {}, "parameters": 1, "curve": {"title": 3}}',
        '{"options": {"recipe_parts": "modern"}, "parameters": 1}',
        '{"options": {"backend": ["jax"]}, "parameters": 1}',
        '{"options": {"affine": ' + "[" * 600 + "]" * 600 + '}, "parameters": 1}',
        '{"options": {}, "parameters": 1, "curve": {"format": "svg"}}',
    ],
)
def test_a_record_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "a_options.json").write_text(content)
    with pytest.raises(UserError, match=r"a_options\.json is damaged or not a run's options"):
        read_record(tmp_path / "a_options.json")


# a run's end


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The folder of a run that augments its images."""
    output = tmp_path_factory.mktemp("run")
    train(toy.experiment(flip="random"), Options(output=str(output), epochs=2))
    return output


def test_a_run_keeps_its_predictions_and_what_it_was_trained_on(output):
    kept = KeptPredictions.read(output / "toy_predictions.npz")
    data = toy.read()
    history = json.loads((output / "toy.json").read_text())
    assert kept.predictions.accuracy == pytest.approx(history["val_accuracy"][-1])
    wrong = kept.predictions.predicted != data.val_labels
    assert sorted(kept.mistakes) == np.flatnonzero(wrong).tolist()
    for index, image in kept.mistakes.items():
        np.testing.assert_array_equal(image, data.val_images[index])
    batches = TrainingBatches(data.train_images, data.train_labels, 8, [RandomFlip()], seed=42)
    np.testing.assert_array_equal(kept.augmented, batches.batch(0, 0)[0])


def test_a_page_made_again_is_the_one_of_the_runs_end(output):
    page = output / "toy_report.html"
    first = page.read_text()
    page.unlink()
    assert SavedRun.read(output, "toy").write_page() == page
    assert page.read_text() == first


def test_predictions_of_an_earlier_end_are_left_out(output, tmp_path):
    """The run went on since, and was interrupted."""
    shutil.copytree(output, tmp_path / "run")
    history = json.loads((tmp_path / "run" / "toy.json").read_text())
    longer = {name: [*values, 0.5] for name, values in history.items()}
    (tmp_path / "run" / "toy.json").write_text(json.dumps(longer))
    finished = SavedRun.read(tmp_path / "run", "toy")
    assert (finished.kept, finished.text) == (None, None)
    page = finished.write_page().read_text()
    assert "50.00%" in page
    assert "of the validation images are classified correctly" in page


def test_a_page_that_cannot_be_written_does_not_cost_the_runs_end(tmp_path, capsys):
    (tmp_path / "toy_report.html").mkdir()
    toy_with_model = toy.experiment(model="toy.hdf5")
    result = train(toy_with_model, Options(output=str(tmp_path)))
    warning = "warning: the report was not laid out as HTML and PDF"
    assert warning in capsys.readouterr().err
    assert len(result.predictions.labels) == 24
    for ending in ("_report.txt", "_predictions.npz", ".hdf5"):
        assert (tmp_path / f"toy{ending}").exists()
