"""Rank-1 and rank-5 accuracy against a plain sort, and at the edges."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from pipeline.utils.ranked import rank5_accuracy


def test_agrees_with_scikit_learn_where_nothing_is_tied():
    rng = np.random.default_rng(0)
    predictions, labels = rng.random((2000, 50)), rng.integers(0, 50, 2000)
    rank1, rank5 = rank5_accuracy(predictions, labels)
    assert rank1 == accuracy_score(labels, predictions.argmax(axis=1))
    assert rank5 == top_k_accuracy_score(labels, predictions, k=5)
    assert 0 < rank1 < rank5 < 1


def test_ties_go_to_the_lower_label_as_with_argmax():
    rng = np.random.default_rng(1)
    predictions, labels = rng.integers(0, 3, (500, 12)), rng.integers(0, 12, 500)
    rank1, rank5 = rank5_accuracy(predictions, labels)
    order = np.argsort(-predictions, axis=1, kind="stable")
    assert rank1 == np.mean(order[:, 0] == labels)
    assert rank5 == np.mean((order[:, :5] == labels[:, None]).any(axis=1))


def test_constant_predictions_are_right_by_chance_only():
    labels = np.arange(200)
    assert rank5_accuracy(np.full((200, 200), 1 / 200), labels) == (1 / 200, 5 / 200)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_with_up_to_five_classes_rank_5_is_always_reached(classes):
    predictions = np.tile(np.arange(classes, dtype=float), (4, 1))
    rank1, rank5 = rank5_accuracy(predictions, np.zeros(4, dtype=int))
    assert rank1 == (1.0 if classes == 1 else 0.0)
    assert rank5 == 1.0


def test_infinite_scores_have_a_rank():
    assert rank5_accuracy(np.array([[-np.inf, np.inf, 0.0]]), np.array([1])) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        (np.zeros((3, 4)), np.zeros(2, dtype=int), r"labels \(2,\) for predictions \(3, 4\)"),
        (np.zeros((2, 4)), np.array([0, 4]), "integers from 0 to 3"),
        (np.zeros((2, 4)), np.array([0, -1]), "integers from 0 to 3"),
        (np.zeros((2, 4)), np.array([0.0, 1.0]), "integers from 0 to 3"),
        (np.zeros((0, 4)), np.zeros(0, dtype=int), r"got \(0, 4\)"),
        (np.zeros(4), np.zeros(4, dtype=int), r"got \(4,\)"),
        (np.array([[0, np.nan], [0, 1]]), np.array([0, 1]), "1 of 2 predictions hold NaN"),
    ],
)
def test_what_has_no_rank_is_refused(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        rank5_accuracy(predictions, labels)
