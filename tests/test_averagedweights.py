import keras
import numpy as np
import pytest
from resealed import reseal

from pipeline.batches import EvaluationBatches, TrainingBatches
from pipeline.callbacks.averagedweights import AveragedWeights
from pipeline.command_line.options import parse_training, training_parser
from pipeline.files.modelfile import load_weights, read_checkpoint
from pipeline.nn.conv import ResNet
from pipeline.training import loop
from pipeline.training.recipe import Recipe
from pipeline.training.run import Run
from pipeline.training.schedule import constant

SCRIPT = "train_it.py"
RECIPE = Recipe(2, 8, 0.1, reg=0, module_reg=0, momentum=0.9, nesterov=True, ema=0.5)


def values(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def classifier():
    def classifier(recipe=RECIPE):
        keras.utils.set_random_seed(1)
        network = ResNet.build(8, 8, 3, 4, (1,), (4, 8))
        model, _ = loop.classifier_by(recipe, network, 0.1, 2, steps_per_epoch=3, power=1.0)
        return model

    return classifier


@pytest.fixture
def train(classifier, tiny_images, tmp_path):
    """Trains, or goes on, as a script does; returns the model and the newest checkpoint."""

    def train(name, epochs):
        defaults = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1}
        parser = training_parser("", (), defaults, str(tmp_path / name), "checkpoints")
        parser.prog = SCRIPT
        args, checkpoint = parse_training(parser, ["--resume", "--epochs", str(epochs)])
        run = Run(SCRIPT, args, checkpoint)
        batches = TrainingBatches(*tiny_images, 8, start_epoch=run.start_epoch)
        model = classifier()
        loop.train(model, batches, EvaluationBatches(*tiny_images, 8), run, constant, False)
        return model, run.checkpoints / f"epoch_{epochs}.hdf5"

    return train


@pytest.mark.jax
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
    for step in weights[1:]:
        average = [0.5 * old + 0.5 * new for old, new in zip(average, step, strict=True)]
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
def test_what_is_evaluated_is_what_is_saved(train, classifier, tiny_images):
    model, path = train("run", 2)
    history = read_checkpoint(path).history
    saved = classifier()
    load_weights(path, saved.network)
    assert_same(values(saved.network.weights), values(model.network.weights))
    loss, accuracy = saved.evaluate(EvaluationBatches(*tiny_images, 8), verbose=0)
    assert loss == pytest.approx(history["val_loss"][-1], rel=1e-5)
    assert accuracy == pytest.approx(history["val_accuracy"][-1])


@pytest.mark.jax
def test_resume_is_exact(train):
    straight, path = train("straight", 2)
    train("pieces", 1)
    pieces, resumed = train("pieces", 2)
    assert resumed.read_bytes() == path.read_bytes()
    assert_same(values(pieces.weights), values(straight.weights))


@pytest.mark.jax
def test_a_run_that_has_nothing_left_to_train_ends_with_the_averages(train):
    ended, _ = train("run", 2)
    again, _ = train("run", 2)
    assert_same(values(again.weights), values(ended.weights))


@pytest.mark.jax
def test_a_checkpoint_from_before_the_statistics_were_averaged_still_goes_on(train, classifier):
    _, path = train("run", 1)
    reseal(path, lambda file: file["training"].pop("averages"))
    model = classifier()
    read_checkpoint(path).restore(model)
    assert_same(values(model.averages), values(model.statistics))
    train("run", 2)
    assert path.with_name("epoch_2.hdf5").exists()
