"""Addresses in the network: which ones hold a secret, and where a redirect may lead."""

import re
import socket
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

# user:password@ and token@ after a scheme. A password may contain an @, but no slash (RFC 3986, 3.2.1).
_USER = re.compile(r"(?<=://)[^\s/?#'\"]+(?=@)")
_SENSITIVE = r"(?:token|secret|password|passwd|credential|signature|connection_string|(?:api|access|account)[_-]?key)"
# ?token=..., &X-Amz-Signature=..., &sig=...: the name and the value.
_QUERY = re.compile(rf"(?i)(?P<name>[?&](?:sig|key|[\w.%-]*{_SENSITIVE}[\w.%-]*)=)[^\s&#'\"]+")
# Schemes in which a name before the host is no secret: abfs://container@account, sftp://user@host.
_NAMED = re.compile(r"(?i)(?!https?:)[^:/]+://[^\s/?#:]+@")


def redacted(text: str) -> str:
    """Return `text` without passwords and tokens in the addresses that it names."""
    return _QUERY.sub(r"\g<name>***", _USER.sub("***", text))


def holds_secret(address: str) -> bool:
    """Return whether an address holds a password or a token."""
    return redacted(address) != address and not (_NAMED.match(address) and not _QUERY.search(address))


def redirect_fault(source: str, target: str) -> str:
    """Return why a redirect of the URL `source` to `target` is not followed, or an empty string.

    A server elsewhere must not reach this machine, or the network that it is in, through this program.
    """
    inside = sorted(_kinds(target) - _kinds(source) - {"public"})
    return f"redirected to '{urlsplit(target).hostname}', a {inside[0]} address" if inside else ""


def _kinds(url: str) -> set[str]:
    """Return the kinds of the addresses of a URL's host; none for one that only a proxy can resolve."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname or "", None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return set()
    return {_kind(str(address[0])) for *_, address in found}


def _kind(text: str) -> str:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return "public" if address.is_global else "private"
