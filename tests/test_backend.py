import os
import re

import keras
import pytest

from pipeline import backend

pytestmark = pytest.mark.thorough

START = """
import sys
from pipeline import backend
from pipeline.command_line import script
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


def test_on_jax_all_variables_are_copied_to_the_host_at_once(monkeypatch):
    done = []
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.ops, "convert_to_numpy", lambda variable: done.append("waited for"))

    class OnTheGPU:
        value = property(lambda self: self)

        def copy_to_host_async(self):
            done.append("begun")

    backend.to_numpy([OnTheGPU(), OnTheGPU()])
    assert done == ["begun", "begun", "waited for", "waited for"]


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
        ("tensorflow", "pip install ."),
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
    way_out = "name one of tensorflow, jax, torch with KERAS_BACKEND"
    assert refusal(name) == f"error: KERAS_BACKEND is {name}: {way_out}"


def test_a_backend_of_keras_own_settings_that_cannot_train_is_refused(run_python, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "numpy"}')
    done = run_python("-c", START, KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.endswith(
        "keras.json, name the backend numpy: name one of tensorflow, jax, "
        "torch with KERAS_BACKEND\n"
    )


# oneDNN

AT_ITS_IMPORT = """
import os, platform, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise SystemExit("set to " + os.environ.get("TF_ENABLE_ONEDNN_OPTS", "nothing"))

sys.meta_path.insert(0, Watch())
machine = sys.argv.pop()
platform.machine = lambda: machine
"""


@pytest.fixture
def onednn_at_tensorflows_import(run_python, monkeypatch):
    """Runs Python that imports TensorFlow; returns what its setting is by then, as it decides."""

    def at_its_import(code, machine="x86_64", **environment):
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
        environment["KERAS_BACKEND"] = "tensorflow"
        return run_python("-c", AT_ITS_IMPORT + code, machine, **environment).stderr.strip()

    return at_its_import


def test_onednn_is_on_before_tensorflow_is_imported(onednn_at_tensorflows_import):
    start = "from pipeline import backend; backend.start()"
    assert onednn_at_tensorflows_import(start) == "set to 1"
    assert onednn_at_tensorflows_import(start, TF_ENABLE_ONEDNN_OPTS="0") == "set to 0"
    assert onednn_at_tensorflows_import(start, machine="aarch64") == "set to nothing"


@pytest.mark.parametrize(("contender", "setting"), [("ours", "1"), ("keras", "nothing")])
def test_stock_keras_is_measured_as_its_users_get_it(
    contender, setting, onednn_at_tensorflows_import
):
    contend = f"""
sys.argv.append("{contender}")
runpy.run_module("benchmarks.contender", run_name="__main__")
"""
    assert onednn_at_tensorflows_import(contend) == f"set to {setting}"


@pytest.mark.parametrize(("setting", "on"), [("0", "False"), ("1", "True")])
def test_it_tells_whether_tensorflow_uses_onednn(setting, on, run_python):
    code = "from pipeline import backend; backend.start(); print(backend.uses_onednn())"
    done = run_python("-c", code, KERAS_BACKEND="tensorflow", TF_ENABLE_ONEDNN_OPTS=setting)
    assert done.stdout.splitlines()[1:] == [on]


def test_tensorflows_onednn_is_no_matter_of_other_backends(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert backend.uses_onednn() is None
