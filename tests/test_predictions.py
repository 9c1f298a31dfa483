import numpy as np
import pytest

from pipeline.evaluation.predictions import Predictions

NAMES = ("ant", "bee", "cat")
LABELS = np.array([0, 0, 0, 1, 1, 2], dtype=np.int32)
PROBABILITIES = np.array(
    [
        [0.90, 0.05, 0.05],
        [0.30, 0.60, 0.10],
        [0.04, 0.95, 0.01],
        [0.10, 0.80, 0.10],
        [0.20, 0.10, 0.70],
        [0.10, 0.20, 0.70],
    ],
    dtype=np.float32,
)
PREDICTIONS = Predictions(PROBABILITIES, LABELS, NAMES)


def test_confusions_are_counted_by_right_class_and_answer():
    assert PREDICTIONS.confusion_matrix().tolist() == [[1, 2, 0], [0, 1, 1], [0, 0, 1]]
    assert PREDICTIONS.confusions(5) == [
        {"images": 2, "right": "ant", "said": "bee"},
        {"images": 1, "right": "bee", "said": "cat"},
    ]
    assert len(PREDICTIONS.confusions(1)) == 1


def test_classes_have_precision_and_recall():
    ant, bee, cat = PREDICTIONS.of_classes()
    assert ant == {"name": "ant", "precision": 1, "recall": 1 / 3, "f1": 0.5, "images": 3}
    assert (bee["precision"], bee["recall"]) == (1 / 3, 1 / 2)
    assert (cat["precision"], cat["recall"]) == (1 / 2, 1)


def test_a_class_that_has_no_images_and_is_never_said_counts_all_the_same():
    rare = Predictions(np.array([[0.9, 0.1, 0.0]]), np.array([0]), NAMES)
    assert rare.confusion_matrix().shape == (3, 3)
    assert rare.of_classes()[2] == {
        "name": "cat",
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "images": 0,
    }


def test_mistakes_come_the_surest_first():
    assert PREDICTIONS.mistakes(10).tolist() == [2, 4, 1]
    assert PREDICTIONS.mistakes(2).tolist() == [2, 4]


def of_confidence(confidence, right):
    """Predictions of two classes: their answers have this confidence, and are right or not."""
    probabilities = np.stack([confidence, 1 - np.asarray(confidence)], axis=1)
    return Predictions(probabilities, np.where(right, 0, 1), ("yes", "no"))


def test_a_network_that_is_right_as_often_as_it_says_is_calibrated():
    right = np.arange(10) < 8
    assert of_confidence(np.full(10, 0.8), right).calibration_error() == pytest.approx(0)
    assert of_confidence(np.full(10, 0.9), right).calibration_error() == pytest.approx(0.1)
    assert of_confidence(np.ones(4), np.zeros(4)).calibration_error() == pytest.approx(1)


def test_what_one_bin_has_too_much_another_does_not_make_good():
    """0.6 and 0.9 lie in bins of their own; taken together, the answers would be calibrated."""
    confidence = np.repeat([0.6, 0.9], 10)
    right = np.concatenate([np.arange(10) < 8, np.arange(10) < 7])
    predictions = of_confidence(confidence, right)
    assert predictions.calibration_error() == pytest.approx(0.2)
    assert predictions.calibration_error(bins=1) == pytest.approx(0)


def test_a_bin_has_its_upper_end_and_not_its_lower_one():
    """Of five bins 0.8 lies in the one below that of 0.85, and the gaps do not cancel."""
    predictions = of_confidence(np.array([0.8, 0.85]), np.array([True, False]))
    assert predictions.calibration_error(bins=5) == pytest.approx((0.2 + 0.85) / 2)


def test_a_name_keeps_to_its_line_in_the_report():
    report = Predictions(PROBABILITIES, LABELS, ("a\nb", "\x1b[2J", "c")).report()
    assert "a b " in report
    assert "\\x1b[2J" in report


# the report

MANY_NAMES = tuple(f"class_{number}" for number in range(30))


@pytest.fixture
def predictions():
    """Ten images of each of 30 classes; of class n, n or at most 10 are taken for the class 0."""
    labels = np.repeat(np.arange(30), 10)
    wrong = np.tile(np.arange(10), 30) < labels
    return Predictions(np.eye(30)[np.where(wrong, 0, labels)], labels, MANY_NAMES)


def test_a_report_has_every_class_and_the_averages(predictions):
    lines = predictions.report().splitlines()
    assert [line.split()[0] for line in lines[2:32]] == list(MANY_NAMES)
    assert [line.split()[0] for line in lines[33:]] == ["accuracy", "macro", "weighted"]


def test_the_worst_classes_stand_as_in_the_whole_report_from_the_worst_on(predictions):
    whole, short = predictions.report().splitlines(), predictions.report(worst=22).splitlines()
    assert short[:2] + short[-4:] == whole[:2] + whole[-4:]
    shown = [line.split()[0] for line in short[2:-4]]
    never_right = list(MANY_NAMES[10:])
    assert shown[:20] == never_right
    assert shown[20:] == ["class_0", "class_9"]
    assert all(line in whole for line in short)
