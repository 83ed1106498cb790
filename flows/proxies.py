"""Proxies of the environment: commands use them to fetch and push data, Prefect's server on this machine needs none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_EXEMPT = ("NO_PROXY", "no_proxy")
# The user's exemptions, while this process exempts everything.
_given: list[dict[str, str]] = []


@contextmanager
def unused_for(url: str) -> Iterator[None]:
    """Have this process use no proxy meanwhile if `url` is on this machine.

    Exempting that address is not enough: a proxy that the client cannot use ends it before it looks at addresses.
    """
    if urlsplit(url).hostname not in {"127.0.0.1", "localhost", "::1"}:
        yield
        return
    _given.append({name: os.environ.pop(name) for name in _EXEMPT if name in os.environ})
    os.environ |= dict.fromkeys(_EXEMPT, "*")
    try:
        yield
    finally:
        for name in _EXEMPT:
            del os.environ[name]
        os.environ |= _given.pop()


def given() -> dict[str, str]:
    """Return this process's environment with the exemptions that the user has set."""
    if not _given:
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if name not in _EXEMPT} | _given[-1]
