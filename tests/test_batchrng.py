import numpy as np

from pipeline.augmentation.batchrng import BatchRng


def numbers(*place):
    return BatchRng(*place, np.arange(3)).integers(1 << 40, size=4).tolist()


def test_the_numbers_depend_on_seed_epoch_and_batch_and_on_nothing_else():
    assert numbers(1, 2, 3) == numbers(1, 2, 3)
    places = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)]
    assert len({tuple(numbers(*place)) for place in places}) == len(places)


def test_it_knows_what_batch_it_is_for():
    rng = BatchRng(0, 7, 1, np.array([5, 2]))
    assert (rng.epoch, rng.indices.tolist()) == (7, [5, 2])
