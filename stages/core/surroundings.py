"""What users have set for libraries on their machine, where it would change results or end a run.

Imported before every library that has such settings: they are read when it is loaded.
"""

import io
import os
import resource
import sys
import warnings
from pathlib import Path

# The environment as it was given, for what is not a matter of results.
GIVEN = dict(os.environ)

# Beginnings of the variables by which libraries choose another arithmetic, other kernels or fewer steps.
_PREFIXES = ("KERAS_", "TF_", "XLA_", "ONEDNN_", "DNNL_", "OV_", "OPENCV_", "NPY_", "OPENBLAS_CORETYPE", "NVIDIA_TF32_")
# How much is logged, and how the memory of a GPU is taken.
_KEPT = {"TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR"}
# The least address space to start with, bytes. With less, OpenBLAS waits for memory for ever, and TensorFlow, which
# reserves 2.7 GB, ends without a word.
_LEAST_ADDRESS_SPACE = 4e9
# Where CUDA is installed; every other flag of XLA's changes how it computes.
_CUDA = "--xla_gpu_cuda_data_dir="


def ignore_user_settings() -> None:
    """Remove from the environment what would change results, and have Keras ignore the user's keras.json."""
    for name in GIVEN:
        if name.startswith(_PREFIXES) and name not in _KEPT:
            del os.environ[name]
    if cuda := [flag for flag in GIVEN.get("XLA_FLAGS", "").split() if flag.startswith(_CUDA)]:
        os.environ["XLA_FLAGS"] = " ".join(cuda)
    # Without the file Keras has its defaults: float32, channels last. There can be none below a device.
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}
    if "error" in GIVEN.get("PYTHONWARNINGS", ""):
        # Libraries warn when they are imported.
        warnings.simplefilter("default")


def keras_home() -> Path:
    """Return the folder of Keras's files. Raise RuntimeError when the user has no home folder."""
    return Path(GIVEN["KERAS_HOME"]) if GIVEN.get("KERAS_HOME") else Path.home() / ".keras"


def require_own_python() -> None:
    """Have names of files and output in UTF-8, whatever the locale, and docstrings, which OpenVINO reads.

    Python decides on both when it starts: the program then starts again.
    """
    if sys.getfilesystemencoding() != "utf-8" or "PYTHONOPTIMIZE" in GIVEN:
        environment = {name: value for name, value in GIVEN.items() if name != "PYTHONOPTIMIZE"}
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, command, environment)  # noqa: S606
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def require_memory() -> None:
    """Raise MemoryError when this process is not allowed the memory that libraries take when they are loaded."""
    for limit, option in ((resource.RLIMIT_AS, "v"), (resource.RLIMIT_DATA, "d")):
        allowed = resource.getrlimit(limit)[0]
        if allowed != resource.RLIM_INFINITY and allowed < _LEAST_ADDRESS_SPACE:
            raise MemoryError(
                f"`ulimit -{option}` allows {allowed / 1e9:.2g} GB, {_LEAST_ADDRESS_SPACE / 1e9:g} are needed"
            )


ignore_user_settings()
