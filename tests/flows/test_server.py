import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_API_BASE_PATH,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from flows import server
from flows.graph import FlowError
from flows.process import environment

ROOT = Path(__file__).parents[2]

UNUSED = "http://127.0.0.1:9/api"
REMEDY = "the history of runs, which holds no results, is sqlite.*: move it away, .* or set PREFECT_HOME to another"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("reading settings\n\x1b[31mno such database\x1b[0m", "no such database"),
        (
            "sqlite3.OperationalError: unable to open database file\n\nServer stopped!",
            "sqlite3.OperationalError: unable .*",
        ),
        # A database of another version.
        (
            "alembic.util.exc.CommandError: Can't locate revision identified by 'ffff'\n",
            "alembic.util.exc.CommandError: Can't locate revision identified by 'ffff'",
        ),
        ("", "it printed nothing"),
    ],
)
def test_a_server_that_dies_says_its_last_words(printed: str, said: str) -> None:
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-c", f"print({printed!r}); raise SystemExit(3)"], stdout=log)
        with pytest.raises(FlowError, match=rf"^Prefect's server ended with exit code 3: {said}; {REMEDY}"):
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


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "/api"),
        ({PREFECT_SERVER_API_BASE_PATH: "/prefect/api"}, "/prefect/api"),
        ({PREFECT_SERVER_API_AUTH_STRING: "user:word"}, "/api"),
    ],
)
def test_a_temporary_server_is_found_where_the_user_s_settings_put_it(settings: dict[Any, str], address: str) -> None:
    with temporary_settings(settings):
        own = server._address_of_temporary()
    assert urlsplit(own[PREFECT_API_URL]).path == address
    assert own.get(PREFECT_API_AUTH_STRING) == settings.get(PREFECT_SERVER_API_AUTH_STRING)


PROXY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": PROXY},
        {"http_proxy": PROXY, "no_proxy": "example.com"},
        {"HTTPS_PROXY": PROXY, "https_proxy": PROXY},
        {"ALL_PROXY": PROXY},
        {"all_proxy": "socks5://127.0.0.1:9"},
        {"ALL_PROXY": "socks5h://127.0.0.1:9", "NO_PROXY": "127.0.0.1"},
        {"http_proxy": "htp://nonsense"},
        {"http_proxy": PROXY, "NO_PROXY": "[::1]:80,,*.x"},
    ],
)
@pytest.mark.usefixtures("prefect_server")
def test_no_proxy_of_the_user_comes_between_the_flow_and_a_server_on_this_machine(
    proxies: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with server.server():
        assert server.answers()
        assert httpx.get(f"{get_current_settings().api.url}/health").is_success
        # What commands fetch and push may need them.
        handed_on = environment()
    assert {name: handed_on[name] for name in handed_on if name.lower().endswith("_proxy")} == proxies
    assert dict(os.environ) == before


def test_a_proxy_is_used_for_a_server_elsewhere_and_one_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with (
        temporary_settings({PREFECT_API_URL: "http://prefect.invalid/api"}),
        pytest.raises(FlowError, match=r"^no Prefect server answers at http://prefect.invalid/api \(Using SOCKS proxy"),
        server.server(),
    ):
        pass


@pytest.mark.parametrize(
    "variables",
    [
        {"PREFECT_LOGGING_LEVEL": "nonsense"},
        {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "perhaps"},
        {"PREFECT_PROFILES_PATH": "profiles.toml"},
    ],
)
def test_settings_of_prefect_that_cannot_be_used_are_one_line(variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text("active = [")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PREFECT_"))}
    own = {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "flows.compare"]
    done = subprocess.run(
        command, cwd=tmp_path, env=inherited | own | variables, capture_output=True, text=True, check=False
    )
    # Prefect may say something before.
    line = done.stderr.splitlines()[-1]
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert line.startswith("flow: Prefect's settings cannot be used (")
    assert line.endswith("); correct its profiles.toml or the PREFECT_ variables")
