"""An experiment: what is trained on what and how, and the function that runs it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.errors import Interrupted, UserError, one_line
from pipeline.files.resultfiles import ResultFiles
from pipeline.nn.spec import Architecture
from pipeline.training.recipe import Recipe

if TYPE_CHECKING:  # slow to import: a configuration is read before anything is trained
    import keras

    from pipeline.backend.devices import Devices
    from pipeline.batches import TrainingBatches
    from pipeline.evaluation.predictions import Predictions
    from pipeline.files.modelfile import Checkpoint
    from pipeline.history import History
    from pipeline.io.dataset import Dataset
    from pipeline.nn.spec import NetworkSpec
    from pipeline.training.run import Run

# Options of one call, which a checkpoint does not keep, and those that photographs alone have.
FORGOTTEN = {"output", "checkpoints", "resume", "checkpoint_minutes", "workers", "devices"}
OF_PHOTOGRAPHS = {"network", "size", "holdout"}

# Options that a run cannot change when it goes on: what the weights in a checkpoint and the
# optimizer's variables depend on, and which images they have not seen.
FIXED_OPTIONS = ("dataset", "network", "stages", "filters", "recipe", "holdout", "weights")


@dataclass(frozen=True)
class Experiment:
    """Everything about a training script but the options of one run.

    Attributes:
        name: of the result files.
        datasets: for each data set, the default first, its reader: a function that takes a path or
            None and returns a `Dataset`, or the function's place, "module:name", from where it is
            imported once it is needed. Where bad images are to be left out, it is called with
            `skip_bad=True` besides.
        architecture: the network.
        networks: others to choose from by name, of the same stem; the default is `architecture`.
        recipes: the ways of training to choose from, the default first.
        watched: whether a person watches the run and lowers the learning rate.
        centred: whether the mean of the training images is subtracted from images; otherwise they
            are scaled to 0..1.
        data: where the data set lies if nothing else is said.
        builder: the script that makes `data`, for whoever has not yet done so.
        size: for photographs, the width and height that they are brought to, in pixels; their
            reader takes the arguments of `read_photograph_folder`. None for images of one size.
        holdout: for photographs, the share that is validated on where they do not lie divided.
        centre: for photographs, what of one is evaluated on; see `NetworkSpec`.
        output: folder of the results if nothing else is said.
        checkpoints: folder of the checkpoints, below the output folder.
        model: name of the final model's file, below the output folder; without one, none is saved.
    """

    name: str
    datasets: Mapping[str, str | Callable[[str | None], Dataset]]
    architecture: Architecture
    recipes: Mapping[str, Recipe]
    networks: Mapping[str, Architecture] = field(default_factory=dict)
    watched: bool = False
    centred: bool = True
    data: str | None = None
    builder: str | None = None
    size: int | None = None
    holdout: float | None = None
    centre: float = 1.0
    output: str = "output"
    checkpoints: str = "checkpoints"
    model: str | None = None

    @property
    def remembered(self) -> tuple[str, ...]:
        """Names of the options that a checkpoint keeps."""
        return tuple(name for name in REMEMBERED if self.size or name not in OF_PHOTOGRAPHS)

    def resolve(self, options: Options) -> Options:
        """Returns the options with the experiment's values in place of those left out.

        Raises:
            UserError: there is no data set, recipe or network of the name that is asked for.
        """
        for what, known in (
            ("dataset", self.datasets),
            ("recipe", self.recipes),
            ("network", self.networks),
        ):
            asked = getattr(options, what)
            if asked and asked not in known:
                choice = f"choose from {', '.join(known)}" if known else "leave it out"
                raise UserError(f"{self.name} has no {what} {asked}: {choice}")
        recipe = self.recipes[options.recipe or next(iter(self.recipes))]
        architecture = self.networks[options.network] if options.network else self.architecture
        own = {
            "dataset": next(iter(self.datasets)),
            "data": self.data,
            "recipe": next(iter(self.recipes)),
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "stages": architecture.stages,
            "filters": architecture.filters,
            "size": self.size,
            "holdout": self.holdout,
            "output": self.output,
        }
        missing = {name: value for name, value in own.items() if getattr(options, name) is None}
        options = replace(options, **missing)
        below = {"checkpoints": self.checkpoints, "model": self.model}
        missing = {
            name: f"{options.output}/{value}"
            for name, value in below.items()
            if value and getattr(options, name) is None
        }
        return replace(options, **missing)

    def read(self, options: Options, remember: bool = True) -> Dataset:
        """Reads the data set that resolved options name.

        Args:
            options: of the run.
            remember: whether what is known of photographs is written beside the results.
        """
        reader = self.datasets[options.dataset]
        if isinstance(reader, str):
            reader = pkgutil.resolve_name(reader)
        if self.size is None:
            return reader(options.data, **({"skip_bad": True} if options.skip_bad else {}))
        record = ResultFiles(Path(options.output), self.name).pictures
        return reader(
            options.data,
            options.size,
            holdout=options.holdout,
            skip_bad=options.skip_bad,
            record=record,
            centre=self.centre,
            remember=remember,
        )


@dataclass(frozen=True)
class Options:
    """What is asked of one run; what is None is as the experiment has it.

    Attributes:
        dataset: one of the experiment's.
        data: path of the data set.
        recipe: one of the experiment's.
        epochs: epoch to reach.
        batch_size: in images.
        learning_rate: the highest of the run.
        network: one of the experiment's, whose stages and filters are those below if left out.
        stages, filters: of a `resnet`; see `ResNet.build`.
        size, holdout: for photographs; see `read_photograph_folder`.
        skip_bad: whether to go on without images that cannot be used.
        weights: a trained model or checkpoint of the same network, to start from; its classifier
            is not taken over.
        class_weights: "balanced" lets every class weigh the same in the loss, however many images
            it has; an image that CutMix has mixed counts as one of its larger part's class.
        patience: number of epochs after which training ends unless the validation accuracy has
            risen; None trains to the last epoch.
        output: folder of the results.
        checkpoints: folder of the checkpoints.
        model: file of the final model.
        resume: whether to go on from the newest checkpoint, if there is one.
        every: which epochs' checkpoints stay: multiples of this number.
        checkpoint_minutes: from one checkpoint to the next within an epoch, if it takes as long.
        seed: of the initial weights, the order of the images and the augmentation.
        precision: Keras's dtype policy, for `backend.start`; `train` takes the one in force.
        workers: threads that make batches.
        devices: how many to train on, in each process; all that there are if left out.
    """

    dataset: str | None = None
    data: str | None = None
    recipe: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    network: str | None = None
    stages: tuple[int, ...] | None = None
    filters: tuple[int, ...] | None = None
    size: int | None = None
    holdout: float | None = None
    skip_bad: bool = False
    weights: str | None = None
    class_weights: str | None = None
    patience: int | None = None
    output: str | None = None
    checkpoints: str | None = None
    model: str | None = None
    resume: bool = False
    every: int = 5
    checkpoint_minutes: float = 10.0
    seed: int = 42
    precision: str = "float32"
    workers: int = 2
    devices: int | None = None


REMEMBERED = tuple(option.name for option in fields(Options) if option.name not in FORGOTTEN)


@dataclass(frozen=True, eq=False)
class Result:
    """What a run has come to.

    Attributes:
        network: from preprocessed images to probabilities.
        spec: what the network is; `spec.preprocessor` makes of uint8 images what it takes.
        history: a list of one value an epoch for each measure, such as `val_accuracy`.
        predictions: what the network says of the test images, or of the validation images where
            there are no others.
    """

    network: keras.Model
    spec: NetworkSpec
    history: History
    predictions: Predictions


def train(
    experiment: Experiment,
    options: Options | None = None,
    checkpoint: Checkpoint | None = None,
    *,
    script: str | None = None,
    command: str | None = None,
    locks: Mapping[Path, TextIO] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Result:
    """Trains an experiment's network to the last epoch, and evaluates it on the test images.

    Where the data set has none, it is the validation images that it is evaluated on.

    Along the way there are a checkpoint, the history and a plot after every epoch; at the end a
    report as text and as an HTML page, the predictions and, where the experiment has one, the final
    model.

    Args:
        experiment: what is trained.
        options: of this run.
        checkpoint: what the run goes on from, instead of the newest of its folder.
        script: what the checkpoints are marked with; by default the experiment's name.
        command: what the run was started with, for its record.
        locks: the locks that are held already, by folder; closed in the end.
        callbacks: of one's own, such as an experiment tracker's; each epoch's checkpoint is on
            disk before they hear of its end.

    Raises:
        UserError: something is wrong with the options, the data or the checkpoint, or another
            run's results are in the way.
        Interrupted: a signal stopped the training.
        Diverged: the loss or a weight is no longer a finite number.
    """
    import keras

    from pipeline import backend
    from pipeline.files.checkpoints import newest_checkpoint
    from pipeline.files.lock import lock_before_reading
    from pipeline.training.run import Run

    options = experiment.resolve(options or Options())
    options = replace(options, precision=keras.config.dtype_policy().name)
    devices = backend.available_devices(options.devices)
    locks = dict(locks or {})
    try:
        if options.resume and checkpoint is None:
            folder = Path(options.checkpoints)
            if devices.chief:
                # What another run wrote after the reading would be trained once more.
                lock_before_reading(folder, locks)
            checkpoint = newest_checkpoint(folder)
        run = Run(experiment, options, checkpoint, script, command, locks, devices)
        return _train(experiment, run, callbacks)
    finally:
        # A notebook keeps the traceback of an error, and all that its frames refer to.
        for file in locks.values():
            file.close()


def _train(
    experiment: Experiment, run: Run, callbacks: Sequence[keras.callbacks.Callback]
) -> Result:
    import keras

    from pipeline.evaluation.predictions import predict
    from pipeline.files.modelfile import load_body
    from pipeline.history import epochs
    from pipeline.training.assembly import make_classifier, make_evaluation, make_training
    from pipeline.training.loop import fit

    options, checkpoint, devices = run.options, run.checkpoint, run.devices
    recipe = replace(
        experiment.recipes[options.recipe],
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
    )
    if devices.chief:
        data = experiment.read(options)
        devices.barrier("read")
    else:
        devices.barrier("read")
        # What the chief has found out about pictures need not be found out again.
        data = experiment.read(options, remember=False)
    if recipe.holdout:
        data = data.with_held_out(recipe.holdout)
    if not data.may_be_mirrored:
        recipe = recipe.unmirrored()
    run.begin(recipe, data)

    architecture = replace(
        experiment.architecture, stages=tuple(options.stages), filters=tuple(options.filters)
    )
    mean = data.mean if experiment.centred else None
    spec = architecture.spec(data.image_shape, data.label_names, mean, experiment.centre)
    if checkpoint:  # a few bytes can describe a network that fills any memory
        checkpoint.refuse_too_few_weights(spec)
    preprocess = spec.preprocessor.preprocess
    train_batches = make_training(
        recipe,
        data,
        preprocess,
        options.seed,
        run.start_epoch,
        options.workers,
        devices,
        run.start_batch,
    )
    part = (data.val_images, data.val_labels)
    val_batches = make_evaluation(recipe, data, part, preprocess, options.workers, devices)
    name = one_line(data.name or options.dataset)
    called = f" ({data.val_part})" if data.val_part else ""
    with devices.scope():
        keras.utils.set_random_seed(options.seed)
        classifier, schedule = make_classifier(recipe, spec, train_batches.steps_per_epoch)
        if options.weights and not checkpoint:
            load_body(options.weights, classifier.network)
            print(one_line(f"weights: those of {options.weights}, with a new classifier"))

        print(
            f"{name}: {len(data.label_names)} classes, {len(data.train_images):,} images to train "
            f"on, {len(data.val_images):,}{called} to validate"
        )
        print(f"{spec.title}: {classifier.network.count_params():,} parameters")
        if run.start_epoch < options.epochs:
            print(f"an epoch: {_batches(train_batches)}")
            if devices.count > 1:
                print(f"{devices}: {_division(train_batches, devices)}")
        run.drawn_with = {
            "title": f"{name}, {spec.title}",
            "validation": data.val_part,
            "regularized": bool(classifier.losses),
        }
        try:
            history = fit(classifier, train_batches, val_batches, run, schedule, callbacks)
        except Interrupted:
            devices.barrier("stopped")  # the checkpoint may not be written yet
            raise

        images, batches = data.val_images, val_batches
        if data.test_images is not None:
            images = data.test_images
            print(f"final evaluation, on {len(images):,} images not used so far:")
            part = (images, data.test_labels)
            batches = make_evaluation(recipe, data, part, preprocess, options.workers, devices)
        predictions = predict(classifier.network, batches, data.label_names)
    if devices.chief:
        run.report(predictions)
        run.save_model(classifier.network, spec, history)
        run.write_page(predictions, epochs(history), images, train_batches, spec.preprocessor)
    devices.barrier("ended")
    return Result(classifier.network, spec, history, predictions)


def _batches(batches: TrainingBatches) -> str:
    steps, size = batches.steps_per_epoch, batches.batch_size
    left_out = len(batches.images) - steps * size
    text = f"{steps:,} {'batch' if steps == 1 else 'batches'} of {size} images"
    return f"{text}; {left_out} images, others each time, are left out" if left_out else text


def _division(batches: TrainingBatches, devices: Devices) -> str:
    size = batches.batch_size
    return f"batch {size} = {devices.count} x {size // devices.count}"
