"""Runs the tests that are marked with `jax` once more, on the JAX backend."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

MARKED = [file for file in Path(__file__).parent.glob("*.py") if "mark.jax" in file.read_text()]


def test_what_holds_on_tensorflow_holds_on_jax(run_python):
    pytest.importorskip("jax")
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "jax and not slow", *MARKED]
    again = run_python(*command, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "passed" in again.stdout
    assert "skipped" not in again.stdout
