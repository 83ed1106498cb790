from pathlib import Path

import pytest

from flows.redaction import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("get https://user:pa55@example.com/x.zip now", "get https://***@example.com/x.zip now"),
        ("'https://ghp_0123456789@github.com/a/b'", "'https://***@github.com/a/b'"),
        ("postgresql://user:p@ss@host:5432/db", "postgresql://***@host:5432/db"),
        ("https://host/x?a=1&token=abc&b=2", "https://host/x?a=1&token=***&b=2"),
        ("https://host/x?sv=2024&sig=abc%2F", "https://host/x?sv=2024&sig=***"),
        ("https://host/x?X-Amz-Signature=0af3, retry", "https://host/x?X-Amz-Signature=***, retry"),
        ("{'aws_secret_access_key': 'abc def', 'region': 'x'}", "{'aws_secret_access_key': ***, 'region': 'x'}"),
        ('"password": "hunter2"', '"password": ***'),
        ("Authorization: Bearer eyJhbGciOi.J9", "Authorization: Bearer ***"),
        ("curl --password hunter2 --silent", "curl --password *** --silent"),
        ("{'sessionToken': 'abc'}", "{'sessionToken': ***}"),
    ],
)
def test_a_secret_is_masked_and_what_stands_around_it_stays(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "ERROR: failed to reproduce 'a': failed to run: exit 7, exited with 7",
        "https://host:4200/runs/flow-run/0f2b?tab=logs",
        "mail somebody@example.com about vgg16@b",
        "token stage, key=value, password",
        "GOOGLE_CREDENTIALS_FILE=/home/me/key.json, token_type: jwt",
        "tokenizer: bert, tokenization=words",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "PGPASSWORD",
        "MYSQL_PWD",
        "SSHPASS",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "SIGNING_KEY",
        "SECRET_KEY_BASE",
        "GITLAB_PAT",
        "CI_SECRETS",
        "PREFECT_SERVER_API_AUTH_STRING",
        "AZURE_STORAGE_CONNECTION_STRING",
        "GITHUB_TOKEN2",
        "DB_PASSWORD1",
        "DB_PWD2",
        "SECRETKEY",
        "MINIO_SECRETKEY",
        "DJANGO_SECRETKEY",
        "MYTOKENVALUE",
    ],
)
def test_a_secret_of_the_environment_is_masked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "/abcdefghij")
    assert redact("the name of /abcdefghij.") == "the name of ***."


@pytest.mark.parametrize(
    "name",
    [
        "PWD",
        "OLDPWD",
        "HARMLESS",
        "KEYBOARD",
        "COMPAT",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "HF_TOKEN_PATH",
        "PASSWORD_STORE_DIR",
        "GIT_CREDENTIAL_HELPER",
        "TOKENIZERS_CACHE",
    ],
)
def test_a_variable_that_holds_no_secret_is_not_masked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "/abcdefghij")
    assert redact("in /abcdefghij/data") == "in /abcdefghij/data"


def test_the_place_of_a_secret_is_not_masked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    assert redact(f"cannot read {tmp_path}/key.json") == f"cannot read {tmp_path}/key.json"


def test_a_long_line_without_blanks_is_looked_through_once() -> None:
    line = "a_" * 100_000
    assert redact(f"{line} token=abcdefgh") == f"{line} token=***"


def test_a_short_value_is_not_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_TOKEN", "of")
    assert redact("the name of it") == "the name of it"
