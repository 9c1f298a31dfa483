import numpy as np

from pipeline.augmentation.geometry import RandomFlip


def test_half_of_the_images_are_mirrored_and_the_others_left():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    flipped = RandomFlip()(np.repeat(image[None], 2_000, 0), np.random.default_rng(1))
    mirrored = (flipped == image[:, ::-1]).all(axis=(1, 2, 3))
    left = (flipped == image).all(axis=(1, 2, 3))
    assert (mirrored ^ left).all()
    assert 0.45 < mirrored.mean() < 0.55
