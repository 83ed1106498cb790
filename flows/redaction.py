"""Redacting secrets in logs, messages and artifacts, before they are shown, sent to Prefect or stored."""

import os
import re

REDACTED = "***"

_NAME = r"(?:token|secret|password|passwd|credential|signature|connection_string|(?:api|access|account)[_-]?key)"
# user:password@ and token@ after a scheme. A password may contain an @, but no slash (RFC 3986, 3.2.1).
_USER = re.compile(r"(?<=://)[^\s/?#'\"]+(?=@)")
# token=..., "aws_secret_access_key": "...", X-Amz-Signature=..., --password ...: the name, and the end of the value.
_NAMED = re.compile(
    rf"""(?ix) (?P<name> [\w.-]*{_NAME}[\w.-]*['"]?\s*[=:]\s* | [?&](?:sig|key)= | \b(?:bearer|basic)\s+ )
    (?: '[^']*' | "[^"]*" | [^\s&,;'"]+ )"""
)
_SECRET_NAME = re.compile(rf"(?i){_NAME}|(?:^|_)(?:pat|pwd)$")
# Shorter values would match ordinary words.
_SHORTEST = 8


def redact(text: str) -> str:
    """Return `text` without passwords and tokens in URLs and settings, and without secret environment variables."""
    for secret in _environment():
        text = text.replace(secret, REDACTED)
    return _NAMED.sub(rf"\g<name>{REDACTED}", _USER.sub(REDACTED, text))


def _environment() -> list[str]:
    """Return the values of environment variables with secret names, the longest first."""
    values = {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}
    return sorted(values, key=len, reverse=True)
