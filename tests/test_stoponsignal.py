import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import keras
import numpy as np
import pytest
from forkedscript import ROOT
from signalled import in_terminal
from storm import NETWORK

from pipeline.callbacks.stoponsignal import ONE_REQUEST, StopOnSignal
from pipeline.errors import Interrupted
from pipeline.files.checkpoints import checkpoints
from pipeline.files.modelfile import read_checkpoint


class Recorder(keras.callbacks.Callback):
    """Notes the batches that were begun, and signals its own process in one of them.

    That batch goes on until the signal has been answered, as any batch of a real network would.
    """

    def __init__(self, stop, where=None, number=None, signal_number=None):
        super().__init__()
        self.stop, self.where, self.number, self.signal_number = stop, where, number, signal_number
        self.begun = []

    def _begin(self, where, number):
        self.begun.append((where, number))
        if (where, number) == (self.where, self.number):
            os.kill(os.getpid(), self.signal_number)
            deadline = time.monotonic() + 60
            while self.signal_number in StopOnSignal.SIGNALS and self.stop.received is None:
                assert time.monotonic() < deadline, "no answer"
                time.sleep(0.001)

    def on_train_batch_begin(self, batch, logs=None):
        self._begin("train", batch)

    def on_test_batch_begin(self, batch, logs=None):
        self._begin("test", batch)


@pytest.fixture(autouse=True)
def not_under_nohup():
    """Lets SIGHUP end this process, even where the tests are to outlive their terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def fit(stop, *callbacks):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), loss="mse")
    images, labels = np.ones((8, 1)), np.zeros((8, 1))
    with stop:
        model.fit(
            images,
            labels,
            batch_size=2,
            validation_data=(images, labels),
            validation_batch_size=4,
            verbose=0,
            callbacks=[*callbacks, stop],
        )


TRAINING = [("train", batch) for batch in range(4)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_training_ends_after_the_batch_in_which_the_signal_comes(number, capfd):
    stop = StopOnSignal()
    recorder = Recorder(stop, "train", 2, number)
    with pytest.raises(Interrupted) as interruption:
        fit(stop, recorder)
    assert interruption.value.signal_number == number
    assert recorder.begun == TRAINING[:3]
    assert "stopping after this batch; a second signal stops at once" in capfd.readouterr().err


def test_before_training_ends_amid_an_epoch_it_is_saved():
    saved = []
    stop = StopOnSignal(saved.append)
    with pytest.raises(Interrupted):
        fit(stop, Recorder(stop, "train", 2, signal.SIGTERM))
    assert saved == [3]


@pytest.mark.parametrize("place", [("train", 3), ("test", 0)])
def test_the_end_of_an_epoch_is_waited_for(place, capfd):
    ended, saved = [], []
    stop = StopOnSignal(saved.append)
    recorder = Recorder(stop, *place, signal.SIGINT)
    before = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    with pytest.raises(Interrupted):
        fit(stop, recorder, before)
    assert recorder.begun == [*TRAINING, ("test", 0), ("test", 1)]
    assert (ended, saved) == ([0], [])
    under_way = {"train": "batch", "test": "validation"}[place[0]]
    assert f"stopping after this {under_way};" in capfd.readouterr().err


def test_processes_that_have_to_stop_together_agree_on_the_batch():
    asked = []

    def agreed(batch):
        asked.append(batch)
        return batch == 2

    stop = StopOnSignal(agreed=agreed)
    recorder = Recorder(stop)
    before = signal.getsignal(signal.SIGTERM)
    notes = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: asked.append(signal.getsignal(signal.SIGTERM))
    )
    with pytest.raises(Interrupted) as interruption:
        fit(stop, recorder, notes)
    assert asked == [before, 1, 2]  # who agrees has the signal
    assert recorder.begun == TRAINING[:2]
    assert interruption.value.signal_number == signal.SIGTERM


def test_without_a_signal_training_goes_to_its_end():
    stop = StopOnSignal()
    recorder = Recorder(stop)
    fit(stop, recorder)
    assert recorder.begun == [*TRAINING, ("test", 0), ("test", 1)]


def test_afterwards_signals_do_what_they_did_before():
    handlers = [signal.getsignal(number) for number in StopOnSignal.SIGNALS]
    for signalled in ((), ("train", 0, signal.SIGINT)):
        stop = StopOnSignal()
        with suppress(Interrupted):
            fit(stop, Recorder(stop, *signalled))
        assert [signal.getsignal(number) for number in StopOnSignal.SIGNALS] == handlers
        assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_run_that_is_to_outlive_its_terminal_does():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        stop = StopOnSignal()
        hang_up = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: signal.raise_signal(signal.SIGHUP)
        )
        fit(stop, hang_up)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stop.received is None


def test_other_signals_are_left_alone():
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        stop = StopOnSignal()
        fit(stop, Recorder(stop, "train", 1, signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]


# A batch that never ends: C code that neither returns to Python nor holds its lock.
ENDLESS_BATCH = """
import ctypes, os, signal
from pipeline.callbacks.stoponsignal import ONE_REQUEST, StopOnSignal
with StopOnSignal():
    for number in StopOnSignal.SIGNALS:
        signal.siginterrupt(number, False)
    print("started", flush=True)
    while True:
        ctypes.CDLL(None).read(os.pipe()[0], ctypes.create_string_buffer(1), 1)
"""


@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)]
)
def test_even_in_the_midst_of_a_batch_the_first_is_answered_and_the_second_obeyed(numbers):
    first, second = numbers
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_BATCH],
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(first)
        assert select.select([process.stderr], [], [], 60)[0], "no answer"
        assert b"stopping" in os.read(process.stderr.fileno(), 1000)
        process.send_signal(first)  # as `timeout` does, which is no second request
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=ONE_REQUEST + 0.5)
        process.send_signal(second)
        assert process.wait(timeout=60) == 128 + second
    finally:
        process.kill()
        process.communicate()


@contextmanager
def closed_terminal(output, epochs, of_sighup):
    """Starts training from a terminal that is closed once a batch is shown; lends the process."""
    script = [sys.executable, ROOT / "resnet_cifar10_decay.py", "--epochs", epochs]
    options = ["--dataset", "digits", *NETWORK, "--batch-size", "2", "--output", output]
    command = [str(argument) for argument in (*script, *options)]
    with in_terminal(command, of_sighup) as (process, ours):
        shown = b""
        while b"batch 2" not in shown:  # of 718
            assert select.select([ours], [], [], 60)[0], shown
            shown += os.read(ours, 1000)
        os.close(ours)
        yield process


def test_a_script_whose_terminal_is_closed_saves_what_it_has_and_ends(tmp_path):
    with closed_terminal(tmp_path, 100_000, signal.SIG_DFL) as process:
        assert process.wait(timeout=60) == 128 + signal.SIGHUP
    (saved,) = checkpoints(tmp_path / "checkpoints_decay").values()
    assert read_checkpoint(saved).batch > 1


def test_a_script_that_is_to_outlive_its_terminal_comes_to_its_end(tmp_path):
    with closed_terminal(tmp_path, 1, signal.SIG_IGN) as process:
        assert process.wait(timeout=120) == 0
    assert (tmp_path / "resnet_cifar10.hdf5").exists()


def test_a_child_that_was_forked_meanwhile_does_not_keep_training_from_its_end():
    child = None

    def fork(batch, logs=None):
        nonlocal child
        if child is None and not (child := os.fork()):
            time.sleep(60)
            os._exit(0)

    try:
        fit(StopOnSignal(), keras.callbacks.LambdaCallback(on_train_batch_begin=fork))
        assert os.waitpid(child, os.WNOHANG) == (0, 0)  # it has not ended yet
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
