"""The one training loop, and the report at its end."""

import sys

import keras
import numpy as np
from sklearn.metrics import classification_report

from pipeline import backend
from pipeline.batches import EvaluationBatches, TrainingBatches, reading
from pipeline.callbacks.averagedweights import AveragedWeights
from pipeline.callbacks.divergenceguard import DivergenceGuard
from pipeline.callbacks.epochcheckpoint import EpochCheckpoint
from pipeline.callbacks.stoponsignal import StopOnSignal
from pipeline.callbacks.throughput import Throughput
from pipeline.callbacks.trainingmonitor import TrainingMonitor
from pipeline.command_line import options
from pipeline.errors import Diverged, Interrupted, UserError
from pipeline.files.atomic import discard_unfinished, write_atomically
from pipeline.files.checkpoints import checkpoint_path
from pipeline.nn.spec import NetworkSpec
from pipeline.training.classifier import Classifier
from pipeline.training.recipe import Recipe
from pipeline.training.run import Run
from pipeline.training.schedule import Schedule, polynomial_decay, warmup_cosine


def classifier_by(
    recipe: Recipe,
    network: keras.Model,
    learning_rate: float,
    epochs: int,
    steps_per_epoch: int,
    power: float,
    spec: NetworkSpec | None = None,
) -> tuple[Classifier, Schedule | None]:
    """Makes a network ready for training by a recipe.

    Args:
        recipe: for optimizer and loss.
        network: gives probabilities.
        learning_rate: the highest of the run.
        epochs: length of the run.
        steps_per_epoch: batches an epoch.
        power: of the polynomial decay, where the recipe has no warm-up.
        spec: what the network is, for its checkpoints.

    Returns:
        For `train`: the classifier, and the learning rate by epoch, None where the optimizer has
        one by step.
    """
    if recipe.warmup_epochs is None:
        rate, schedule = learning_rate, polynomial_decay(learning_rate, epochs, power)
    else:
        warmup_steps = recipe.warmup_epochs * steps_per_epoch
        rate = warmup_cosine(learning_rate, epochs * steps_per_epoch, warmup_steps)
        schedule = None
    optimizer = keras.optimizers.SGD(
        rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema,
    )
    classifier = Classifier(network, optimizer, recipe.one_hot, recipe.label_smoothing, spec)
    return classifier, schedule


def train(
    model: Classifier,
    train_batches: TrainingBatches,
    test_batches: EvaluationBatches,
    run: Run,
    schedule: Schedule | None,
    watched: bool,
) -> None:
    """Trains from the run's start epoch to its last, with a checkpoint and a plot every epoch.

    Args:
        model: a run that goes on has its checkpoint restored here.
        train_batches: start at the run's start epoch.
        test_batches: for the validation after every epoch.
        run: options and files.
        schedule: learning rate by epoch; None where the optimizer has one by step.
        watched: whether a person sets the learning rate; the command printed on Ctrl+C then
            offers it.

    Raises:
        Interrupted: a signal ended the training; how to go on has been printed.
        UserError: the checkpoint does not fit the model, or the loss is no longer a number, or
            the images can no longer be read.
    """
    if run.checkpoint:
        learning_rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate)
        run.checkpoint.restore(model)
        if schedule:  # the options decide; they include the checkpoint's rate
            model.optimizer.learning_rate = learning_rate
        elif run.args.batch_size != run.checkpoint.options.get("batch_size", run.args.batch_size):
            # The optimizer's schedule counts steps, and an epoch now has another number of them.
            steps = run.start_epoch * train_batches.steps_per_epoch
            model.optimizer.iterations.assign(steps)
    backend.accelerate(model.network, model.optimizer)
    checkpoint = EpochCheckpoint(
        run.checkpoints, run.args.every, run.start_epoch, run.history, run.options
    )
    if run.start_epoch == run.args.epochs:
        # A kill may have come between the last one and `best.hdf5`, or while its end was recorded.
        checkpoint.on_train_begin()
        discard_unfinished(run.options_path)
        return
    run.record(model.network)

    stop = StopOnSignal()
    callbacks = [
        stop,
        *([keras.callbacks.LearningRateScheduler(schedule)] if schedule else []),
        Throughput(train_batches.batch_size),
        DivergenceGuard(),
        # A kill may come between any two of these. First go the checkpoints of a branch that is
        # left, to which the new history would not belong. Then the history: one epoch too many is
        # trimmed on resume, one too few would be a gap.
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: checkpoint.put_later_aside()),
        TrainingMonitor(run.curve_path, run.history_path, run.start_epoch, run.history),
        checkpoint,
        *([AveragedWeights(restored=run.checkpoint is not None)] if model.averages else []),
    ]
    try:
        with stop, reading(train_batches, test_batches):
            fitted = model.fit(
                train_batches,
                validation_data=test_batches,
                epochs=run.args.epochs,
                initial_epoch=run.start_epoch,
                steps_per_epoch=train_batches.steps_per_epoch,
                shuffle=False,
                callbacks=callbacks,
                verbose=1 if sys.stdout.isatty() else 2,
            )
    except Interrupted:
        place, command = _way_on(run, checkpoint.epoch, run.args.learning_rate if watched else None)
        print(f"\n{place}; go on with\n  {command}")
        raise
    except Diverged as divergence:
        place, command = _way_on(run, checkpoint.epoch, float(f"{run.args.learning_rate / 10:g}"))
        raise UserError(f"{divergence}; {place}; with a lower rate: {command}") from divergence
    run.record(model.network, fitted.history.get("images_per_second"))


def _way_on(run: Run, completed: int, learning_rate: float | None) -> tuple[str, str]:
    """Returns where an unfinished run stands and the command that goes on from there.

    Args:
        run: the run.
        completed: its last completed epoch.
        learning_rate: offered in the command; None leaves the rate as it is.
    """
    if completed == run.start_epoch:
        # Not --resume, which may find the checkpoints of a branch that this run was to leave.
        after = f" after {run.checkpoint.path}" if run.checkpoint else ""
        return f"no epoch was completed{after}", options.command_again(sys.argv, learning_rate)
    path = checkpoint_path(run.checkpoints, completed)
    command = options.command_to_go_on(sys.argv, run.args, learning_rate)
    return f"epoch {completed} is the last completed one, in {path}", command


def report(
    model: keras.Model, test_batches: EvaluationBatches, label_names: tuple[str, ...], run: Run
) -> None:
    """Prints and writes scikit-learn's classification report on the test set."""
    with reading(test_batches):
        predictions = model.predict(test_batches, verbose=0).argmax(axis=1)
    text = classification_report(
        test_batches.labels,
        predictions,
        labels=np.arange(len(label_names)),
        target_names=label_names,
        digits=4,
        zero_division=0,
    )
    print(text)
    write_atomically(run.report_path, text)
    print(f"history, curve, report and options: {run.history_path.parent}/{run.name}*")
