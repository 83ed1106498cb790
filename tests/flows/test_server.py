import subprocess
import sys
import tempfile

import pytest
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

from flows import server
from flows.graph import FlowError

UNUSED = "http://127.0.0.1:9/api"


def test_a_server_that_dies_says_its_last_words() -> None:
    program = "print('reading settings'); print('\\x1b[31mno such database\\x1b[0m'); raise SystemExit(3)"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=log)
        with pytest.raises(FlowError, match=r"^Prefect's server ended with exit code 3: no such database$"):
            server._wait_for(UNUSED, process, log)


def test_a_server_that_never_answers_is_not_awaited_for_ever() -> None:
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(["sleep", "60"]) as process,
        temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 1}),
    ):
        with pytest.raises(FlowError, match="did not answer within 1 seconds; set PREFECT_"):
            server._wait_for(UNUSED, process, log)
        process.kill()
