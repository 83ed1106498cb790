"""Secrets in what commands print: they are masked before a line is shown, sent to Prefect or kept."""

import os
import re

MASK = "***"

_NAME = r"(?:token|secret|password|passwd|credential|signature|connection_string|(?:api|access|account)[_-]?key)"
# user:password@ and token@ behind a scheme. A password may hold an @ of its own, but no slash (RFC 3986, 3.2.1).
_USER = re.compile(r"(?<=://)[^\s/?#'\"]+(?=@)")
# token=..., "aws_secret_access_key": "...", X-Amz-Signature=..., --password ...: the name, and what ends the value.
_NAMED = re.compile(
    rf"""(?ix) (?P<name> [\w.-]*{_NAME}[\w.-]*['"]?\s*[=:]\s* | [?&](?:sig|key)= | \b(?:bearer|basic)\s+ )
    (?: '[^']*' | "[^"]*" | [^\s&,;'"]+ )"""
)
_SECRET_NAME = re.compile(rf"(?i){_NAME}|(?:^|_)(?:pat|pwd)$")
# A shorter value would be found in words that are no secret.
_SHORTEST = 8


def mask(text: str) -> str:
    """Return `text` without passwords and tokens in URLs and settings, and without secrets of the environment."""
    for secret in _environment():
        text = text.replace(secret, MASK)
    return _NAMED.sub(rf"\g<name>{MASK}", _USER.sub(MASK, text))


def _environment() -> list[str]:
    """Return the values of the environment whose names say that they are secret, the longest first."""
    values = {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}
    return sorted(values, key=len, reverse=True)
