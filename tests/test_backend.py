import pytest

START = """
import sys
from pipeline import backend, script
for package in sys.argv[1:]:
    sys.modules[package] = None  # as if it were not installed
script.run(backend.start)
"""


@pytest.fixture
def refusal(run_python):
    """Starts a backend while a package is missing; returns the one line of complaint."""

    def refusal(backend, *missing):
        done = run_python("-c", START, *missing, KERAS_BACKEND=backend)
        assert done.returncode == 2
        *_, complaint = done.stderr.splitlines()  # behind what the import itself had to say
        assert complaint.startswith("error: ")
        return complaint

    return refusal


@pytest.mark.parametrize(
    ("backend", "advice"),
    [
        ("tensorflow", "pip install -r requirements.txt"),
        ("jax", "pip install jax"),
        ("torch", "pip install torch"),
    ],
)
def test_a_backend_that_is_not_installed_is_named_with_what_installs_it(refusal, backend, advice):
    complaint = refusal(backend, backend)
    assert f"'{advice}'" in complaint
    assert "KERAS_BACKEND=tensorflow or jax or torch" in complaint


@pytest.mark.parametrize("backend", ["numpy", "theano"])
def test_a_backend_that_cannot_train_or_does_not_exist_is_refused(refusal, backend):
    assert refusal(backend) == (
        f"error: KERAS_BACKEND is {backend}: name one of tensorflow, jax, torch"
    )
