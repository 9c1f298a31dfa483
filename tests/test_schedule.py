import math

import keras
import numpy as np
import pytest

from pipeline.training.schedule import (
    constant,
    growing_size,
    last_learning_rate,
    polynomial_decay,
    warmup_cosine,
)

STEPS, WARMUP = 2_000, 50


@pytest.fixture(scope="module")
def rates():
    schedule = warmup_cosine(0.2, STEPS, WARMUP)
    return np.array([float(schedule(step)) for step in range(STEPS)])


def test_linear_decay_would_reach_zero_after_the_last_epoch():
    schedule = polynomial_decay(0.1, 4)
    assert [schedule(epoch, 9.0) for epoch in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert polynomial_decay(0.1, 4, power=2)(2, 9.0) == pytest.approx(0.025)


def test_a_watched_runs_rate_stays():
    assert constant(3, 0.03) == 0.03


def test_the_warm_up_is_linear_from_zero(rates):
    assert rates[: WARMUP + 1] == pytest.approx(np.linspace(0, 0.2, WARMUP + 1), abs=1e-7)


def test_the_rate_is_highest_at_its_end_and_nowhere_else(rates):
    assert rates.argmax() == WARMUP
    assert rates.max() == pytest.approx(0.2)


def test_then_it_is_half_a_cosine_to_exactly_zero_in_the_last_step(rates):
    fraction = np.arange(STEPS - WARMUP) / (STEPS - 1 - WARMUP)
    expected = 0.1 * (1 + np.cos(math.pi * fraction))
    assert rates[WARMUP:] == pytest.approx(expected, abs=1e-6)
    assert rates[-1] == 0
    assert (rates[1:-1] > 0).all()


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 60])
def test_a_run_shorter_than_twice_the_warm_up_warms_up_for_half_of_it(steps):
    schedule = warmup_cosine(0.2, steps, WARMUP)
    rates = [float(schedule(step)) for step in range(steps)]
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == (steps - 1) // 2
    assert rates[-1] == 0 or steps == 1


@pytest.mark.parametrize("scaled", [False, True])
def test_the_rate_that_is_recorded_is_of_the_step_just_taken(scaled):
    """Keras's own `learning_rate` is already that of the next step, an epoch's first."""
    schedule = warmup_cosine(0.2, steps=4, warmup_steps=1)
    optimizer = keras.optimizers.SGD(schedule)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    weight = keras.Variable(1.0)
    optimizer.build([weight])
    for step in range(4):
        optimizer.apply([keras.ops.convert_to_tensor(0.0)])
        assert last_learning_rate(optimizer) == pytest.approx(float(schedule(step)))
    assert last_learning_rate(optimizer) == 0


def test_a_constant_rate_is_recorded_as_it_is():
    assert last_learning_rate(keras.optimizers.SGD(0.05)) == pytest.approx(0.05)


def test_images_grow_from_their_first_size_to_their_last():
    size = growing_size(224, 16, first=160 / 224, last=192 / 224, since=0.65, until=0.8)
    assert [size(epoch) for epoch in range(16)] == [160] * 12 + [192] * 4
    size = growing_size(256, 5, first=0.5, last=1, since=0, until=1)
    assert [size(epoch) for epoch in range(5)] == [128, 160, 192, 192, 224]
    assert growing_size(48, 2, first=0.1, last=1, since=0, until=0.5)(0) == 32
    size = growing_size(64, 4, first=0.5, last=0.875, since=0.25, until=0.75, step=8)
    assert [size(epoch) for epoch in range(4)] == [32, 32, 48, 56]
