"""The one training loop."""

import time
from collections.abc import Sequence

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from pipeline import backend
from pipeline.batches import EvaluationBatches, TrainingBatches, original_errors
from pipeline.callbacks.averagedweights import AveragedWeights
from pipeline.callbacks.continuedepoch import ContinuedEpoch
from pipeline.callbacks.divergenceguard import DivergenceGuard
from pipeline.callbacks.epochcheckpoint import EpochCheckpoint
from pipeline.callbacks.lazycallbacklist import LazyCallbackList
from pipeline.callbacks.progress import Progress
from pipeline.callbacks.stoponsignal import StopOnSignal
from pipeline.callbacks.throughput import Throughput
from pipeline.callbacks.trainingmonitor import TrainingMonitor
from pipeline.errors import Stopped, UserError
from pipeline.history import History, stalled
from pipeline.training.classifier import Classifier
from pipeline.training.run import Run
from pipeline.training.schedule import Schedule


def fit(
    classifier: Classifier,
    train_batches: TrainingBatches,
    val_batches: EvaluationBatches,
    run: Run,
    schedule: Schedule | None,
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> History:
    """Trains from the run's start epoch to its last, with a checkpoint and a plot every epoch.

    Args:
        classifier: new; where the run goes on, its checkpoint is restored here.
        train_batches: start at the run's start epoch.
        val_batches: for the validation after every epoch.
        run: options and files.
        schedule: learning rate by epoch; None where the optimizer has one by step.
        more_callbacks: called after an epoch's checkpoint is written, by the process that does.

    Returns:
        The history of all epochs, those before the start epoch included.

    Raises:
        Interrupted: a signal ended the training.
        Diverged: the loss or a weight is no longer a finite number.
        UserError: the checkpoint does not fit the classifier, the images can no longer be read, or
            there is not enough memory.
    """
    options, checkpoint = run.options, run.checkpoint
    steps = train_batches.steps_per_epoch
    class_weight = _class_weight(options.class_weights, train_batches.labels)
    if checkpoint:
        _restore(classifier, run, schedule, steps)
    backend.accelerate(classifier.network, classifier.optimizer)
    monitor = TrainingMonitor(
        run.files.curve,
        run.files.history,
        run.start_epoch,
        run.history,
        writes=run.devices.chief,
        **run.drawn_with,
    )
    writer = EpochCheckpoint(
        run.checkpoints,
        options.every,
        run.start_epoch,
        monitor.history,
        run.remembered,
        run.start_batch,
        options.checkpoint_minutes,
        run.devices.chief,
    )
    if run.nothing_left:
        _end_again(classifier, run, monitor, writer)
        return run.history
    run.record(classifier.network)
    stop = StopOnSignal(writer.save_under_way, run.devices.agreed)
    progress = Progress(train_batches.batch_size)
    callbacks = [
        *([keras.callbacks.LearningRateScheduler(schedule)] if schedule else []),
        Throughput(train_batches.batch_size),
        progress,
        DivergenceGuard(),
        # The order matters, as the process may be killed between any two of these. The checkpoints
        # of a branch that is left go first, as the new history is not theirs. The history comes
        # before the checkpoint: one epoch too many is trimmed on resume, one too few would be a
        # gap.
        keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: writer.put_later_aside()),
        monitor,
        writer,
        _stop_if_stalled(classifier, monitor.history, options.patience),
        *(more_callbacks if run.devices.chief else []),
        stop,  # after all that is to be safe by then
    ]
    if classifier.averages:
        # Amid an epoch, the weights are what is trained.
        restored = checkpoint is not None and not checkpoint.batch
        callbacks.append(AveragedWeights(restored))
    data, settings = train_batches, {"class_weight": class_weight}
    place = {"epochs": options.epochs, "steps": steps}
    if not run.start_batch:
        callbacks = LazyCallbackList(callbacks, add_history=True, model=classifier, **place)
    else:
        callbacks = ContinuedEpoch(
            callbacks, classifier, train_batches, class_weight, checkpoint, **place
        )
        data, settings = callbacks.data, {"steps_per_epoch": steps}
    started = time.monotonic()
    try:
        with progress, stop, original_errors(train_batches, val_batches):
            fitted = classifier.fit(
                data,
                validation_data=val_batches,
                epochs=options.epochs,
                initial_epoch=run.start_epoch,
                callbacks=callbacks,
                verbose=0,
                **settings,
            )
    except Stopped as stopped:
        stopped.advanced = writer.path is not None
        stopped.checkpoint, stopped.batch = writer.path, writer.batch
        if checkpoint and not stopped.advanced:
            stopped.checkpoint = checkpoint.path
        raise
    except Exception as error:
        if backend.is_out_of_memory(error):
            raise UserError(
                f"there is not enough memory to train on {train_batches.batch_size} images at a "
                "time: choose a smaller --batch-size"
            ) from error
        raise
    finally:
        train_batches.stop()  # or more would be made beside the evaluation, and kept in memory
    seconds = round(time.monotonic() - started)
    run.record(classifier.network, fitted.history.get("images_per_second"), seconds)
    return monitor.history


def _end_again(
    classifier: Classifier, run: Run, monitor: TrainingMonitor, writer: EpochCheckpoint
) -> None:
    """Does what may be left to do of a run that is trained to its end."""
    if run.start_epoch < run.options.epochs:
        print(f"{_not_risen(run.options.patience)}: nothing is trained")
    # The process may have been killed before it had copied the last checkpoint to best.hdf5, or
    # recorded its end.
    writer.on_train_begin()
    run.discard_unfinished()
    if run.history and not run.files.history.exists():  # in another folder than it was trained
        monitor.write()
        run.record(classifier.network)


def _stop_if_stalled(
    classifier: Classifier, history: History, patience: int | None
) -> keras.callbacks.Callback:
    """Makes a callback that ends training once the validation accuracy has stopped rising."""

    def stop_if_stalled(epoch: int, logs: dict | None) -> None:
        if stalled(history, patience):
            print(f"{_not_risen(patience)}: training ends")
            classifier.stop_training = True

    return keras.callbacks.LambdaCallback(on_epoch_end=stop_if_stalled)


def _not_risen(patience: int | None) -> str:
    return f"the validation accuracy has not risen for --patience {patience}"


def _class_weight(kind: str | None, labels: np.ndarray) -> dict[int, float] | None:
    """Returns the weight of each class in the loss, of the classes that there are images of."""
    if kind is None:
        return None
    classes = np.unique(labels)
    weights = compute_class_weight(kind, classes=classes, y=labels)
    return dict(zip(classes.tolist(), weights.tolist(), strict=True))


def _restore(classifier: Classifier, run: Run, schedule: Schedule | None, steps: int) -> None:
    """Puts the checkpoint's state into a classifier, but for what the run's options decide."""
    learning_rate = keras.ops.convert_to_numpy(classifier.optimizer.learning_rate)
    run.checkpoint.restore(classifier)
    if schedule:  # the options include the checkpoint's rate where they give no other
        classifier.optimizer.learning_rate = learning_rate
    elif run.changed("batch_size") or run.changed("images"):
        # The optimizer's schedule counts steps, and an epoch now has another number of them.
        trained = run.start_epoch * steps
        classifier.optimizer.iterations.assign(trained)
        if classifier.averages:  # whose momentum follows the steps, as that of the weights does
            classifier.steps.assign(trained)
