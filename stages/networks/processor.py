"""The processor of this machine, recorded beside measurements."""

import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name from Linux, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
