import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import ops

from pipeline.augmentation.geometry import AffineAugmenter
from pipeline.batches import EvaluationBatches, TrainingBatches, original_errors
from pipeline.errors import Interrupted, UserError
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor


def numbered(count):
    """Images whose pixels all have the image's number, which is its label as well."""
    numbers = np.arange(count)
    images = np.broadcast_to(numbers[:, None, None, None], (count, 2, 2, 3))
    return images.astype(np.uint8), numbers


def numbers(batch):
    """The numbers of a batch's images; its labels have to say the same."""
    images, labels = batch
    np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    return labels.tolist()


def training(count=10, batch_size=3, **settings):
    return TrainingBatches(*numbered(count), batch_size, **settings)


def photos(count=20):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), np.arange(count)


def centred(images):
    """The step that subtracts the images' mean."""
    mean = MeanPreprocessor.of_images(images)
    return lambda images, rng: mean.preprocess(images)


def augmented(**settings):
    images, labels = photos()
    steps = [centred(images), AffineAugmenter(rotation=10, shift=0.1, flip=True)]
    return TrainingBatches(images, labels, 6, steps, **settings)


def assert_same(batch, other):
    for ours, theirs in zip(batch, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# training: a pure function of seed, epoch and index


def test_a_batch_depends_on_nothing_but_seed_epoch_and_index():
    asked_in_order, asked_at_random = augmented(seed=7), augmented(seed=7)
    expected = {(e, i): asked_in_order.batch(e, i) for e in range(4) for i in range(3)}
    for place in np.random.default_rng(0).permutation(list(expected)):
        assert_same(asked_at_random.batch(*place), expected[tuple(place)])


def test_another_seed_gives_other_batches():
    orders = {tuple(numbers(training(seed=seed).batch(0, 0))) for seed in range(5)}
    assert len(orders) > 1
    assert not np.array_equal(augmented(seed=1).batch(0, 0)[0], augmented(seed=2).batch(0, 0)[0])


def test_every_epoch_shuffles_anew_and_has_every_image_at_most_once():
    batches = training(count=100, batch_size=7)
    orders = []
    for epoch in range(3):
        order = [
            n for i in range(batches.steps_per_epoch) for n in numbers(batches.batch(epoch, i))
        ]
        assert len(order) == len(set(order)) == 98
        orders.append(tuple(order))
    assert len(set(orders)) == 3
    assert orders[0] != tuple(sorted(orders[0]))


def test_over_the_epochs_no_image_is_left_out():
    batches = training(count=10, batch_size=9)
    assert {n for epoch in range(30) for n in numbers(batches.batch(epoch, 0))} == set(range(10))


def test_every_batch_of_every_epoch_is_augmented_anew():
    image, _ = photos(count=1)
    images = np.repeat(image, 4, axis=0)
    batches = TrainingBatches(images, np.zeros(4), 2, [AffineAugmenter(shift=0.3)])
    seen = [batches.batch(epoch, index)[0] for epoch in range(3) for index in range(2)]
    assert len({image.tobytes() for batch in seen for image in batch}) == 3 * 4


@pytest.mark.parametrize(("count", "steps", "size"), [(12, 3, 4), (11, 2, 4), (4, 1, 4), (3, 1, 3)])
def test_the_last_partial_batch_is_dropped_unless_it_is_the_only_one(count, steps, size):
    batches = training(count=count, batch_size=4)
    assert batches.steps_per_epoch == steps
    assert [len(numbers(batches[i])) for i in range(2 * steps)] == [size] * 2 * steps


def test_the_epochs_are_one_sequence_without_an_end():
    batches = augmented(start_epoch=5)
    endless = batches.endless()
    assert (batches.num_batches, endless.num_batches) == (3, None)
    for number in range(9):
        expected = batches.batch(5 + number // 3, number % 3)
        assert_same(batches[number], expected)
        assert_same(endless[number], expected)


def doubled(images, rng=None):
    return images * 2


def test_the_steps_are_taken_in_turn_and_images_come_as_float32():
    images, labels = photos()
    before = images.copy()
    steps = [centred(images), doubled, AffineAugmenter(flip=True)]
    ours, order = TrainingBatches(images, labels, 20, steps).batch(0, 0)
    assert (ours.dtype, order.dtype) == (np.float32, np.int32)
    prepared = 2 * (images[order].astype(np.float64) - MeanPreprocessor.of_images(images).mean)
    for image, expected in zip(ours, prepared, strict=True):
        mirrored = not np.allclose(image, expected, atol=1e-4)
        np.testing.assert_allclose(image, expected[:, ::-1] if mirrored else expected, atol=1e-4)
    np.testing.assert_array_equal(images, before)
    assert training().batch(0, 0)[0].dtype == np.float32


def test_a_step_is_told_epoch_and_indices_of_its_batch():
    def noted(images, rng):
        return images + np.uint8(100 * rng.epoch) + rng.indices[:, None, None, None]

    images, labels = training(steps=[doubled, noted, doubled]).batch(1, 0)
    assert images[:, 0, 0, 0].tolist() == (2 * (2 * labels + 100 + labels)).tolist()


@pytest.mark.parametrize("kind", [TrainingBatches, EvaluationBatches])
def test_labels_come_one_hot_where_they_are_asked_for(kind):
    images, labels = kind(*numbered(4), batch_size=4, classes=5)[0]
    assert labels.dtype == np.float32
    assert labels.tolist() == np.eye(5)[images[:, 0, 0, 0].astype(int)].tolist()


def test_a_mixer_has_the_last_word():
    def mixer(images, labels, rng):
        assert (images.dtype, labels.shape) == (np.float32, (3, 10))
        return images + 1, labels / 2

    images, labels = training(classes=10, mixer=mixer).batch(0, 0)
    assert (labels.argmax(axis=1) + 1).tolist() == images[:, 0, 0, 0].tolist()
    assert labels.max() == 0.5


# evaluation


def test_evaluation_has_every_image_once_in_order_the_partial_batch_included():
    batches = EvaluationBatches(*numbered(10), batch_size=4)
    assert batches.num_batches == 3
    assert [numbers(batches[i]) for i in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[0][0].dtype == np.float32
    assert EvaluationBatches(*numbered(8), batch_size=4).num_batches == 2


# several devices and processes


def test_a_batch_is_filled_up_with_what_does_not_count():
    """Means over all batches, weighted, are means over the images."""
    batches = EvaluationBatches(*numbered(10), batch_size=4, padded=True)
    images, labels, weights = map(np.concatenate, zip(*(batches[i] for i in range(3)), strict=True))
    assert (images.shape, labels.shape, weights.dtype) == ((12, 2, 2, 3), (12,), np.float32)
    assert labels[:10].tolist() == images[:10, 0, 0, 0].tolist() == list(range(10))
    assert weights.tolist() == [np.float32(1.2)] * 10 + [0, 0]
    assert (labels * weights).mean() == pytest.approx(np.mean(range(10)))


def test_where_nothing_is_missing_there_are_no_weights():
    assert len(EvaluationBatches(*numbered(8), batch_size=4, padded=True)[0]) == 2


@pytest.mark.parametrize("parts", [2, 4])
def test_the_parts_of_evaluation_batches_are_the_batches(parts):
    whole = EvaluationBatches(*numbered(9), batch_size=4, padded=True)
    shares = [
        EvaluationBatches(*numbered(9), batch_size=4, padded=True, share=(part, parts))
        for part in range(parts)
    ]
    for number in range(3):
        assert_same(
            map(np.concatenate, zip(*(s[number] for s in shares), strict=True)), whole[number]
        )


def test_a_part_reads_none_of_the_other_parts_images():
    whole = numbers(training(count=12, batch_size=6).batch(0, 1))
    for missing in whole[:2] + whole[4:]:
        images = SpiedImages(12, missing)
        batches = TrainingBatches(images, np.arange(12), 6, share=(1, 3))
        assert numbers(batches.batch(0, 1)) == whole[2:4]


# threads


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(workers):
    batches = augmented(workers=workers, start_epoch=1)
    expected = augmented()
    for number in [*range(9), 3, 100, 0, 1]:
        assert_same(batches[number], expected.batch(1 + number // 3, number % 3))


def test_many_threads_may_ask_at_once():
    batches, expected = augmented(workers=3), augmented()
    with ThreadPoolExecutor(8) as pool:
        places = list(range(30)) * 3
        for number, batch in zip(places, pool.map(batches.__getitem__, places), strict=True):
            assert_same(batch, expected.batch(number // 3, number % 3))


class SpiedImages:
    """Images that note from which thread each batch was gathered, and lack one of theirs."""

    def __init__(self, count, missing=None):
        self.images, self.missing = numbered(count)[0], missing
        self.shape, self.threads = self.images.shape, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, indices):
        self.threads.append(threading.current_thread())
        if self.missing in indices:
            raise OSError("the disk is gone")
        return self.images[indices]


def test_a_stop_is_not_taken_for_what_a_batch_made_ahead_has_failed_of():
    class Gone(SpiedImages):
        def __getitem__(self, indices):
            raise UserError("a file is gone")

    batches = TrainingBatches(Gone(10), np.arange(10), 5)
    with pytest.raises(UserError, match="a file is gone"):
        batches[0]
    with pytest.raises(UserError, match="a file is gone"), original_errors(batches):
        raise RuntimeError("what a backend makes of it")
    with pytest.raises(Interrupted), original_errors(batches):
        raise Interrupted(15)


def test_batches_are_made_ahead_on_other_threads_but_not_without_bound():
    images = SpiedImages(100)
    batches = TrainingBatches(images, np.arange(100), 1, workers=2)
    batches[0]
    deadline = time.monotonic() + 60
    while len(images.threads) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(images.threads) == 5
    assert threading.current_thread() not in images.threads


def test_what_is_asked_for_out_of_order_is_not_made_ahead_in_vain():
    images = SpiedImages(100)
    batches = TrainingBatches(images, np.arange(100), 1, workers=2)
    for number in (50, 30, 70):
        batches[number]
    assert len(images.threads) == 3


def test_batches_that_are_made_ahead_can_be_given_up():
    begun, go_on = threading.Event(), threading.Event()
    made = []

    def waiting(images, rng):
        made.append(images)
        begun.set()
        assert go_on.wait(60)
        return images

    batches = training(steps=[waiting], workers=1)
    asked = threading.Thread(target=batches.__getitem__, args=[0])
    asked.start()
    assert begun.wait(60)
    batches.stop()  # amid the first batch, with two more in the queue
    go_on.set()
    asked.join()
    assert len(made) == 1
    with pytest.raises(RuntimeError):
        batches[1]


def test_what_goes_wrong_on_a_worker_reaches_the_one_who_asks_for_that_batch():
    batches = EvaluationBatches(SpiedImages(9, missing=7), np.arange(9), 3, workers=2)
    assert numbers(batches[0]) == [0, 1, 2]
    assert numbers(batches[1]) == [3, 4, 5]
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            batches[2]


def test_a_forked_process_gets_the_same_batches():
    batches = training(workers=2)
    expected = [numbers(batches[i]) for i in range(4)]
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, repr([numbers(batches[i]) for i in range(4)]).encode())
        finally:
            os._exit(0)
    try:
        assert select.select([read], [], [], 120)[0], "the child hangs"
        assert os.read(read, 1000).decode() == repr(expected)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# what Keras makes of it


class Recorder(keras.layers.Layer):
    """Returns its images' numbers and keeps those that training sees, batch by batch."""

    def __init__(self, steps, batch_size):
        super().__init__()
        self.seen = self.add_weight((steps, batch_size), "zeros", trainable=False)
        self.step = self.add_weight((), "zeros", "int32", trainable=False)
        self.nothing = self.add_weight((), "zeros")  # fit wants something to train

    def call(self, images, training=False):
        found = images[:, 0, 0, 0]
        if training:
            now = ops.arange(self.seen.shape[0]) == self.step.value
            self.seen.assign(ops.where(now[:, None], found, self.seen.value))
            self.step.assign(self.step + 1)
        return found[:, None] + 0 * self.nothing.value


def recording_model(steps, batch_size):
    inputs = keras.Input((2, 2, 3))
    recorder = Recorder(steps, batch_size)
    model = keras.Model(inputs, recorder(inputs))

    def mean_number(labels, predictions):
        return predictions

    # The loss is how far labels and images are apart: zero as long as they stay together.
    model.compile(keras.optimizers.SGD(0.1), loss="mae", metrics=[mean_number])
    return model, recorder


@pytest.mark.jax
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("start_epoch", [0, 2])
def test_fit_feeds_the_batches_of_every_epoch_in_their_order(start_epoch, workers):
    """Not one skipped, repeated or of another epoch, whatever Keras reads ahead."""
    batches = training(count=20, batch_size=3, seed=1, start_epoch=start_epoch, workers=workers)
    validation = EvaluationBatches(*numbered(11), batch_size=4, workers=workers)
    model, recorder = recording_model(steps=3 * 6, batch_size=3)
    history = model.fit(
        batches.endless(),
        validation_data=validation,
        initial_epoch=start_epoch,
        epochs=start_epoch + 3,
        steps_per_epoch=batches.steps_per_epoch,
        shuffle=False,
        verbose=0,
    ).history

    places = [(start_epoch + epoch, index) for epoch in range(3) for index in range(6)]
    expected = [numbers(batches.batch(*place)) for place in places]
    assert ops.convert_to_numpy(recorder.seen).astype(int).tolist() == expected
    assert int(recorder.step) == len(expected)
    assert history["loss"] == history["val_loss"] == [0, 0, 0]
    assert history["val_mean_number"] == [5, 5, 5]


@pytest.mark.jax
@pytest.mark.parametrize(
    "settings", [{}, {"shuffle": False}, {"steps_per_epoch": 6, "shuffle": False}]
)
def test_fit_of_any_model_ends_an_epoch_by_itself_and_goes_on_with_the_next(settings):
    batches = training(count=20, batch_size=3, seed=1, workers=2)
    model, recorder = recording_model(steps=4 * 6, batch_size=3)
    for _ in range(2):
        model.fit(batches, epochs=2, verbose=0, **settings)
    seen = ops.convert_to_numpy(recorder.seen).astype(int).reshape(4, 6, 3).tolist()
    # Which the first is, depends on how often Keras looks into the data before it trains.
    orders = [[numbers(batches.batch(epoch, index)) for index in range(6)] for epoch in range(8)]
    epochs = [[sorted(order) for order in orders].index(sorted(epoch)) for epoch in seen]
    assert epochs == sorted(set(epochs))
    if settings:
        assert seen == [orders[epoch] for epoch in epochs]


@pytest.mark.jax
def test_fit_and_predict_keep_the_order_of_evaluation():
    model, _ = recording_model(1, 1)
    batches = EvaluationBatches(*numbered(11), batch_size=4)
    for _ in range(2):
        assert model.predict(batches, verbose=0)[:, 0].tolist() == list(range(11))


@pytest.mark.jax
def test_fit_does_not_swallow_what_goes_wrong_on_a_worker():
    batches = TrainingBatches(SpiedImages(12, missing=7), np.arange(12), 3)
    model, _ = recording_model(4, 3)
    with pytest.raises(Exception, match="the disk is gone"):
        model.fit(batches, verbose=0)


# refusals


@pytest.mark.parametrize("kind", [TrainingBatches, EvaluationBatches])
@pytest.mark.parametrize(
    ("images", "labels", "batch_size", "workers", "message"),
    [
        (0, 0, 1, 1, "0 images and 0 labels"),
        (3, 2, 1, 1, "3 images and 2 labels"),
        (3, 3, 0, 1, "batch_size 0"),
        (3, 3, 1, 0, "workers 0"),
    ],
)
def test_what_makes_no_batches_is_refused(kind, images, labels, batch_size, workers, message):
    with pytest.raises(ValueError, match=message):
        kind(numbered(images)[0], np.zeros(labels), batch_size, workers=workers)
