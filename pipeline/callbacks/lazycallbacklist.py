"""Calling callbacks after every batch without waiting for the device."""

from collections import UserDict

import keras


class LazyCallbackList(keras.callbacks.CallbackList):
    """Keras's list of callbacks, but a batch's measures become numbers only if they are looked at.

    Keras turns them into numbers for every callback that follows batches. Each time the host waits
    until the device has computed the batch, and then the device until it has the next one.

    Args:
        callbacks: called in this order; `fit` is given the list in their place.
        model: that is trained.
        **params: `epochs` and `steps`, which `fit` leaves to the maker of a list.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Calls the callbacks with the measures, whose numbers are there on demand."""
        measures = Measures(logs or {})
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, measures)

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Calls the callbacks with the measures, whose numbers are there on demand."""
        measures = Measures(logs or {})
        for callback in self.callbacks:
            callback.on_test_batch_end(batch, measures)


class Measures(UserDict):
    """Measures by name: tensors, but to whoever asks for one, a number.

    Asking waits until the device has computed it.
    """

    def __getitem__(self, name: str) -> float:
        return float(keras.ops.convert_to_numpy(self.data[name]))
