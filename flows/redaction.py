"""Redacting secrets in logs, messages and artifacts, before they are shown, sent to Prefect or stored."""

import os
import re

REDACTED = "***"

# Tokenizers have nothing to do with secrets.
_NAME = (
    r"(?:token(?!iz)|secret|password|passwd|passphrase|credential|signature|connection_string"
    r"|(?:api|access|account)[_-]?key)"
)
# What a name that ends so says about a secret, and is none: where it lies, who gives it, how long it is valid.
_ABOUT = r"(?:file|path|dir|directory|folder|home|helper|provider|name|type|expires|lifetime|ttl)"
# user:password@ and token@ after a scheme. A password may contain an @, but no slash (RFC 3986, 3.2.1).
_USER = re.compile(r"(?<=://)[^\s/?#'\"]+(?=@)")
# A name is looked for from its beginning alone: from within, a long line of base64 would take minutes.
# token=..., "aws_secret_access_key": "...", X-Amz-Signature=..., --password ...: the name, and the end of the value.
_NAMED = re.compile(
    rf"""(?ix) (?P<name> (?<![\w.-])(?![\w.-]*[_.-]{_ABOUT}['"]?\s*[=:])[\w.-]*{_NAME}[\w.-]*['"]?\s*[=:]\s*
    | --(?:[\w.]+-)*{_NAME}\s+ | [?&](?:sig|key)= | \b(?:bearer|basic)\s+ )
    (?: '[^']*' | "[^"]*" | [^\s&,;'"]+ )"""
)
# A variable: GITHUB_TOKEN2, PGPASSWORD, DJANGO_SECRETKEY, MYSQL_PWD. Shells keep the working directory in PWD.
_SECRET_NAME = re.compile(
    rf"(?i)(?!.*_{_ABOUT}$)(?:.*(?:{_NAME}|auth_string)|.*_(?:pat|pwd|pass|key)\d*$|(?:pat|key|sshpass)$)"
)
# Shorter values would match ordinary words.
_SHORTEST = 8


def redact(text: str) -> str:
    """Return `text` without passwords and tokens in URLs and settings, and without secret environment variables."""
    for secret in _environment():
        text = text.replace(secret, REDACTED)
    return _NAMED.sub(rf"\g<name>{REDACTED}", _USER.sub(REDACTED, text))


def _environment() -> list[str]:
    """Return the values of environment variables that hold a secret, the longest first."""
    values = {value for name, value in os.environ.items() if _is_secret(name, value)}
    return sorted(values, key=len, reverse=True)


def _is_secret(name: str, value: str) -> bool:
    """Return whether a variable holds a secret by its name, and not the place of one."""
    return bool(_SECRET_NAME.match(name)) and len(value) >= _SHORTEST and not _is_place(value)


def _is_place(value: str) -> bool:
    """Return whether `value` is an absolute path of something that exists; other values may begin with a slash."""
    return value.startswith("/") and os.path.lexists(value)
