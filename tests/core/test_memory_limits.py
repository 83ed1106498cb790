"""A limit on memory that is too low for the libraries is one line, before any of them waits for ever or aborts."""

import re
import resource
import subprocess
import sys

import pytest

from tests.support.clone import ROOT


@pytest.mark.parametrize("program", ["stages.ingest", "stages.preprocess", "stages.finetune", "stages.predict"])
@pytest.mark.parametrize(("limit", "option"), [(resource.RLIMIT_AS, "v"), (resource.RLIMIT_DATA, "d")])
@pytest.mark.parametrize("allowed", [200, 480, 580, 2500])
def test_a_low_limit_of_memory_is_one_line_in_every_program(
    program: str, limit: int, option: str, allowed: int
) -> None:
    size = allowed * 10**6
    ended = subprocess.run(
        [sys.executable, "-m", program],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(limit, (size, size)),
    )
    assert ended.returncode == 1
    assert re.fullmatch(
        rf"machine: .*`ulimit -{option}` allows {size / 1e9:.2g} GB, 4 are needed\); expected more memory; .*\n",
        ended.stderr,
    )
