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
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_secrets_of_the_environment_are_masked_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghij")
    monkeypatch.setenv("SHORT_TOKEN", "of")
    monkeypatch.setenv("HARMLESS", "the name")
    assert redact("the name of hf_abcdefghij.") == "the name of ***."
