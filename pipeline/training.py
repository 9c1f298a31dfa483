"""The one training loop, and the report at its end."""

import sys

import keras
import numpy as np
from sklearn.metrics import classification_report

from pipeline import options
from pipeline.callbacks.divergenceguard import DivergenceGuard
from pipeline.callbacks.epochcheckpoint import EpochCheckpoint
from pipeline.callbacks.stoponsignal import StopOnSignal
from pipeline.callbacks.throughput import Throughput
from pipeline.callbacks.trainingmonitor import TrainingMonitor
from pipeline.errors import Interrupted
from pipeline.io.atomic import write_atomically
from pipeline.io.batches import EvaluationBatches, TrainingBatches
from pipeline.io.checkpoints import checkpoints
from pipeline.run import Run
from pipeline.schedule import Schedule


def train(
    model: keras.Model,
    train_batches: TrainingBatches,
    test_batches: EvaluationBatches,
    run: Run,
    schedule: Schedule,
    watched: bool,
) -> None:
    """Trains from the run's start epoch to its last, with a checkpoint and a plot every epoch.

    Args:
        model: compiled; a run that goes on has its checkpoint restored here.
        train_batches: start at the run's start epoch.
        test_batches: for the validation after every epoch.
        run: options and files.
        schedule: learning rate by epoch.
        watched: whether a person sets the learning rate; the command printed on Ctrl+C then
            offers it.

    Raises:
        Interrupted: a signal ended the training; how to go on has been printed.
        UserError: the checkpoint does not fit the model, or the loss is no longer a number.
    """
    if run.checkpoint:
        learning_rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate)
        run.checkpoint.restore(model)
        model.optimizer.learning_rate = learning_rate  # the options decide, and they know the saved
    run.record(model)

    rate = run.args.learning_rate if watched else None
    lower_rate = options.command_to_go_on(sys.argv, run.args.learning_rate / 10)
    stop = StopOnSignal()
    callbacks = [
        stop,
        keras.callbacks.LearningRateScheduler(schedule),
        Throughput(train_batches.batch_size),
        DivergenceGuard(advice=f"go on with a lower learning rate: {lower_rate}"),
        # The history first: one epoch too many is trimmed on resume, one too few would be a gap.
        TrainingMonitor(run.curve_path, run.history_path, run.start_epoch, run.history),
        EpochCheckpoint(run.checkpoints, run.args.every, run.start_epoch, run.history, run.options),
    ]
    try:
        with stop:
            model.fit(
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
        completed = max(checkpoints(run.checkpoints), default=0)
        if completed > run.start_epoch:
            command = options.command_to_go_on(sys.argv, rate)
            print(f"\nepoch {completed} is the last completed one; go on with\n  {command}")
        else:
            command = options.command_again(sys.argv)
            print(f"\nno epoch was completed; start again with\n  {command}")
        raise


def report(
    model: keras.Model, test_batches: EvaluationBatches, label_names: tuple[str, ...], run: Run
) -> None:
    """Prints and writes scikit-learn's classification report on the test set."""
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
