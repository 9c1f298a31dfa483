from dataclasses import replace

import keras
import numpy as np
import pytest
import toy
from resealed import reseal

from pipeline.batches import EvaluationBatches, TrainingBatches
from pipeline.callbacks.averagedweights import AveragedWeights
from pipeline.files.checkpoints import newest_checkpoint
from pipeline.files.modelfile import read_checkpoint
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
from pipeline.training.assembly import make_classifier
from pipeline.training.averaging import averaging_momentum
from pipeline.training.experiment import Options, train

RECIPE = replace(toy.RECIPE, epochs=2, nesterov=True, ema=0.3)
TOY = toy.experiment(RECIPE)


def values(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def classifier():
    def classifier(recipe=RECIPE):
        keras.utils.set_random_seed(1)
        spec = toy.NETWORK.spec((8, 8, 3), toy.NAMES, mean=None)
        return make_classifier(recipe, spec, steps_per_epoch=3)[0]

    return classifier


@pytest.fixture
def go_on(tmp_path):
    """Trains, or goes on; returns the network and the newest checkpoint."""

    def go_on(name, epochs, experiment=TOY, **others):
        output = tmp_path / name
        checkpoint = newest_checkpoint(output / "checkpoints")
        options = Options(output=str(output), epochs=epochs, resume=True, **others)
        network = train(experiment, options, checkpoint).network
        return network, output / "checkpoints" / f"epoch_{epochs}.hdf5"

    return go_on


@pytest.mark.jax
@pytest.mark.numerics
def test_a_checkpoint_is_the_averages_and_what_training_goes_on_with(classifier, tiny_images):
    model = classifier()
    weights, statistics, seen = [], [], {}

    class Spy(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(values(self.model.trainable_variables))
            statistics.append(values(self.model.statistics))
            seen["averages"] = values(self.model.averages)

        def on_epoch_end(self, epoch, logs=None):
            seen["model"] = values(self.model.trainable_variables)
            seen["optimizer"] = values(self.model.optimizer.variables)
            seen["statistics"] = values(self.model.statistics)
            seen["held"] = values(self.model.averages)

    batches = TrainingBatches(*tiny_images, 8)
    model.fit(
        batches,
        validation_data=EvaluationBatches(*tiny_images, 8),
        epochs=2,
        steps_per_epoch=3,
        shuffle=False,
        verbose=0,
        callbacks=[Spy(), AveragedWeights(restored=False)],
    )
    assert len(weights) == 6
    average = weights[0]
    for step, after in enumerate(weights[1:], 1):
        momentum = min(0.3, step / (step + 9))
        average = [
            momentum * old + (1 - momentum) * new for old, new in zip(average, after, strict=True)
        ]
    for ours, expected in zip(seen["model"], average, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    # Among the optimizer's variables, at the averages' place, are the weights after the last step.
    held = {variable.tobytes() for variable in seen["optimizer"]}
    assert held >= {weight.tobytes() for weight in weights[-1]}
    assert_same(values(model.trainable_variables), seen["model"])
    # The statistics have changed places with their averages in the same way.
    assert_same(seen["statistics"], seen["averages"])
    assert_same(seen["held"], statistics[-1])
    assert_same(values(model.statistics), seen["averages"])


@pytest.mark.jax
def test_whenever_a_run_ends_little_of_the_average_is_its_first_weights():
    of_the_first = 1.0
    for step in range(1, 200):
        momentum = float(averaging_momentum(0.999, step))
        of_the_first *= momentum
        if step >= 4:
            assert of_the_first < 0.005
    assert momentum == pytest.approx(199 / 208)
    assert float(averaging_momentum(0.999, 0)) == 0
    assert float(averaging_momentum(0.999, 8990)) < 0.999
    assert float(averaging_momentum(0.999, 8992)) == np.float32(0.999)


@pytest.mark.jax
@pytest.mark.thorough
def test_what_is_evaluated_is_what_is_saved(go_on, classifier):
    network, path = go_on("run", 2)
    checkpoint, saved = read_checkpoint(path), classifier()
    checkpoint.restore(saved)
    assert_same(values(saved.network.weights), values(network.weights))
    data = toy.read()
    images = MeanPreprocessor(data.mean).preprocess(data.val_images)
    loss, accuracy = saved.evaluate(images, data.val_labels, verbose=0)
    assert loss == pytest.approx(checkpoint.history["val_loss"][-1], rel=1e-5)
    assert accuracy == pytest.approx(checkpoint.history["val_accuracy"][-1])


@pytest.mark.thorough
def test_weights_and_statistics_are_averaged_alike_after_another_batch_size(go_on, classifier):
    recipe = replace(RECIPE, schedule="cosine")  # which counts steps
    go_on("run", 1, toy.experiment(recipe))
    _, path = go_on("run", 2, toy.experiment(recipe), batch_size=4)
    model = classifier(recipe)
    read_checkpoint(path).restore(model)
    assert int(model.steps) == int(model.optimizer.iterations) > 0


@pytest.mark.thorough
def test_a_run_that_has_nothing_left_to_train_ends_with_the_averages(go_on):
    ended, _ = go_on("run", 2)
    again, _ = go_on("run", 2)
    assert_same(values(again.weights), values(ended.weights))


@pytest.mark.thorough
def test_a_checkpoint_from_before_the_statistics_were_averaged_still_goes_on(go_on, classifier):
    _, path = go_on("run", 1)
    reseal(path, lambda file: file["training"].pop("averages"))
    model = classifier()
    read_checkpoint(path).restore(model)
    assert_same(values(model.averages), values(model.statistics))
    assert float(model.steps) == int(model.optimizer.iterations) > 1
    go_on("run", 2)
    assert path.with_name("epoch_2.hdf5").exists()


def test_the_steps_are_known_where_earlier_versions_kept_another_measure(go_on, classifier):
    _, path = go_on("run", 1)
    model = classifier()
    read_checkpoint(path).restore(model)
    steps = float(model.steps)
    assert steps == int(model.optimizer.iterations) > 1
    last = f"{len(model.averages):04}"
    reseal(path, lambda file: file["training/averages"][last].__setitem__((), 0.25))
    model = classifier()
    read_checkpoint(path).restore(model)
    assert float(model.steps) == steps
