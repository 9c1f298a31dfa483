import os
import re

import pytest

from pipeline import backend

START = """
import sys
from pipeline import backend, script
for package in sys.argv[1:]:
    sys.modules[package] = None  # as if it were not installed
script.run(backend.start)
"""


@pytest.mark.parametrize(("cores", "shown"), [({3}, "1 core"), ({0, 3}, "2 cores")])
def test_it_names_versions_precision_and_the_cores_that_the_process_may_use(
    cores, shown, capsys, monkeypatch
):
    monkeypatch.setattr(backend, "gpu_names", list)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores)
    backend.start()
    line = rf"Keras [\d.]+ on \w+ [\d.+cpu]+, CPU \({shown}\), float32\n"
    assert re.fullmatch(line, capsys.readouterr().out)


@pytest.fixture
def refusal(run_python):
    """Starts a backend while a package is missing; returns the one line of complaint."""

    def refusal(name, *missing):
        done = run_python("-c", START, *missing, KERAS_BACKEND=name)
        assert done.returncode == 2
        *_, complaint = done.stderr.splitlines()  # behind what the import itself had to say
        assert complaint.startswith("error: ")
        return complaint

    return refusal


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("tensorflow", "pip install -r requirements.txt"),
        ("jax", "pip install jax"),
        ("torch", "pip install torch"),
    ],
)
def test_a_backend_that_is_not_installed_is_named_with_what_installs_it(refusal, name, advice):
    complaint = refusal(name, name)
    assert f"'{advice}'" in complaint
    assert "KERAS_BACKEND=tensorflow or jax or torch" in complaint


@pytest.mark.parametrize("name", ["numpy", "theano"])
def test_a_backend_that_cannot_train_or_does_not_exist_is_refused(refusal, name):
    assert refusal(name) == (f"error: KERAS_BACKEND is {name}: name one of tensorflow, jax, torch")
