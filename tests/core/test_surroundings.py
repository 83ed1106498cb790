"""No setting of the user's Keras, libraries, locale, Python or home changes a result or ends a program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import surroundings

ROOT = Path(__file__).parents[2]
DEFAULTS = "float32 1e-07 channels_last tensorflow None"
# Keras's module of settings alone: TensorFlow takes seconds to import, and has no part in them.
KERAS = """\
import stages
import importlib.util, runpy, sys
from unittest.mock import MagicMock
(folder,) = importlib.util.find_spec("keras").submodule_search_locations
for name in ("keras", "keras.src", "keras.src.api_export", "keras.src.backend", "keras.src.backend.common"):
    sys.modules[name] = MagicMock()
sys.modules["keras.src.api_export"].keras_export = lambda _: lambda function: function
config = runpy.run_path(f"{folder}/src/backend/config.py")
print(*(config[name]() for name in ("floatx", "epsilon", "image_data_format", "backend", "max_epochs")))
"""


def run(program: str, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in an environment with these variables."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"} | variables
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"floatx": "float16"}),
        json.dumps({"floatx": "float64", "epsilon": 0.1, "image_data_format": "channels_first"}),
        json.dumps({"floatx": "bfloat16"}),
        json.dumps({"backend": "theano", "epsilon": 1}),
        "[]",
        "{",
        "",
    ],
)
def test_no_keras_json_of_the_user_is_heeded(tmp_path: Path, text: str) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text(text)
    for place in ({"HOME": str(tmp_path), "KERAS_HOME": ""}, {"KERAS_HOME": str(tmp_path / ".keras")}):
        done = run(KERAS, **place)
        assert done.stdout.split("\n")[0] == DEFAULTS, done.stderr
    assert (tmp_path / ".keras/keras.json").read_text() == text


@pytest.mark.parametrize(
    "variables",
    [
        {"KERAS_BACKEND": "torch"},
        {"KERAS_BACKEND": "theano", "KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "x"},
        {"KERAS_HOME": "/nonexistent/keras"},
        {"KERAS_HOME": "/proc"},
        {"KERAS_NNX_ENABLED": "1"},
    ],
)
def test_no_variable_of_keras_is_heeded(variables: dict[str, str]) -> None:
    done = run(KERAS, **variables)
    assert done.stdout.split("\n")[0] == DEFAULTS, done.stderr


@pytest.mark.parametrize(
    ("given", "home"),
    [
        ({"KERAS_HOME": "/elsewhere"}, "/elsewhere"),
        ({"KERAS_HOME": "", "HOME": "/home/x"}, "/home/x/.keras"),
        ({"HOME": "/home/x"}, "/home/x/.keras"),
    ],
)
def test_weights_are_kept_where_the_user_s_keras_keeps_them(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], home: str
) -> None:
    monkeypatch.setattr(surroundings, "GIVEN", given)
    monkeypatch.setenv("HOME", given.get("HOME", "/nowhere"))
    assert surroundings.keras_home() == Path(home)


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", "0", None),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2", None),
        ("TF_USE_LEGACY_KERAS", "1", None),
        ("TF_ENABLE_AUTO_MIXED_PRECISION", "1", None),
        ("ONEDNN_MAX_CPU_ISA", "SSE41", None),
        ("OPENBLAS_CORETYPE", "Nehalem", None),
        ("NPY_DISABLE_CPU_FEATURES", "AVX2", None),
        ("OPENCV_IPP", "disabled", None),
        ("NVIDIA_TF32_OVERRIDE", "0", None),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true", None),
        # What says where something is, how much memory it takes or how much it logs is the user's.
        ("XLA_FLAGS", "--xla_dump_to=/x --xla_gpu_cuda_data_dir=/cuda", "--xla_gpu_cuda_data_dir=/cuda"),
        ("TF_FORCE_GPU_ALLOW_GROWTH", "true", "true"),
        ("TF_CPP_MIN_LOG_LEVEL", "0", "0"),
        ("CUDA_VISIBLE_DEVICES", "1", "1"),
        ("OMP_NUM_THREADS", "1", "1"),
    ],
)
def test_no_variable_of_a_library_that_changes_arithmetic_reaches_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, left: str | None
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy() | {name: value})
    monkeypatch.setattr(surroundings, "GIVEN", {name: value})
    surroundings.ignore_user_settings()
    assert os.environ.get(name) == left


@pytest.mark.parametrize("value", ["error", "error::DeprecationWarning", "default,error::UserWarning"])
def test_no_warning_of_a_library_is_fatal_because_the_user_wants_it(value: str) -> None:
    program = "import stages, warnings; warnings.warn('a', DeprecationWarning); warnings.warn('b'); print('done')"
    done = run(program, PYTHONWARNINGS=value)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1:strict"},
        {"LC_ALL": "tr_TR.ISO-8859-9", "PYTHONIOENCODING": "ascii"},
        {"LANG": "nowhere", "PYTHONIOENCODING": "cp1252"},
    ],
)
@pytest.mark.parametrize("options", [[], ["-X", "utf8=0"]])
def test_names_and_output_are_utf_8_whatever_the_locale(
    tmp_path: Path, variables: dict[str, str], options: list[str]
) -> None:
    (tmp_path / "Übung 木").touch()
    program = f"import os; from stages.core.errors import run; run(lambda: print(*os.listdir({str(tmp_path)!r})))"
    assert run(program, *options, **variables).stdout == "Übung 木\n"


@pytest.mark.parametrize("level", ["1", "2"])
def test_libraries_keep_the_docstrings_that_they_read_whatever_the_user_optimises(level: str) -> None:
    program = "import stages.core.errors as e; e.run(lambda: print(e.run.__doc__[:3]))"
    assert run(program, PYTHONOPTIMIZE=level).stdout == "Run\n"


@pytest.mark.parametrize("name", ["Größe", "木"])
def test_what_cannot_be_printed_does_not_end_a_program(name: str) -> None:
    program = f"from stages.core.errors import run; run(lambda: print({name!r}, chr(0xdcff)))"
    assert run(program, PYTHONIOENCODING="ascii:strict").stdout == f"{name} \\udcff\n"
