import subprocess
import sys
import tempfile

import pytest
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

from flows import server
from flows.graph import FlowError

UNUSED = "http://127.0.0.1:9/api"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("reading settings\n\x1b[31mno such database\x1b[0m", "no such database"),
        (
            "sqlite3.OperationalError: unable to open database file\n\nServer stopped!",
            "sqlite3.OperationalError: unable .*",
        ),
        ("", "it printed nothing"),
    ],
)
def test_a_server_that_dies_says_its_last_words(printed: str, said: str) -> None:
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-c", f"print({printed!r}); raise SystemExit(3)"], stdout=log)
        with pytest.raises(FlowError, match=rf"^Prefect's server ended with exit code 3: {said}$"):
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
