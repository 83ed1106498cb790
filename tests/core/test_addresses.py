"""Addresses lose their secrets before they are shown, and no redirect leads from outside into this network."""

import socket

import pytest

from flows.redaction import redact
from stages.core.addresses import holds_secret, redacted, redirect_fault
from stages.core.errors import DataError, GroupedUserError
from stages.core.params import parse, read
from stages.core.settings.data import DataParams
from stages.core.settings.weights import WeightsParams

SECRETS = [
    ("https://user:pass@host/a.zip", "https://***@host/a.zip"),
    ("http://user:p@ss:word@host:8080/a.zip?x=1", "http://***@host:8080/a.zip?x=1"),
    ("https://ghp_token@host/a.zip", "https://***@host/a.zip"),
    ("ftp://user:pass@host/a.zip", "ftp://***@host/a.zip"),
    ("https://host/a.zip?token=abc&x=1", "https://host/a.zip?token=***&x=1"),
    ("https://host/a.zip?x=1&access_token=abc#part", "https://host/a.zip?x=1&access_token=***#part"),
    ("https://host/a?X-Amz-Signature=ff&X-Amz-Expires=3", "https://host/a?X-Amz-Signature=***&X-Amz-Expires=3"),
    ("https://host/a?sv=2024&sig=ff%3D", "https://host/a?sv=2024&sig=***"),
    ("https://host/a?API_KEY=abc", "https://host/a?API_KEY=***"),
    ("https://host/a?password=abc", "https://host/a?password=***"),
    ("https://host/a?key=abc&x=1", "https://host/a?key=***&x=1"),
    ("https://host/a?connection_string=abc", "https://host/a?connection_string=***"),
    ("HTTPS://ghp_token@host/a.zip", "HTTPS://***@host/a.zip"),
]


@pytest.mark.parametrize(("address", "shown"), SECRETS)
def test_passwords_and_tokens_in_addresses_are_known_and_not_shown(address: str, shown: str) -> None:
    assert holds_secret(address)
    assert redacted(address) == shown
    error = DataError(f"data.source = '{address}' does not exist", "a file", f"correct {address}")
    assert str(error) == f"data.source = '{shown}' does not exist; expected a file; correct {shown}"


@pytest.mark.parametrize(("address", "shown"), SECRETS)
def test_flows_which_cannot_share_the_patterns_redact_the_same(address: str, shown: str) -> None:
    # They go on to a blank, and so over the fragment.
    assert redact(address).partition("#")[0] == shown.partition("#")[0]


@pytest.mark.parametrize(
    "address",
    [
        "../images",
        "images@2024/a?b",
        "https://host/a.zip?id=3&export=download",
        "https://host/@scope/a.zip",
        "s3://bucket/tokens/a.zip",
        "abfs://container@account/a.zip",
        "sftp://user@host/a.zip",
    ],
)
def test_an_address_without_a_password_or_token_holds_no_secret(address: str) -> None:
    assert not holds_secret(address)


@pytest.mark.parametrize(("address", "shown"), SECRETS)
def test_parameters_with_a_secret_in_an_address_are_refused_in_a_line_without_it(address: str, shown: str) -> None:
    for cls, section, key in ((DataParams, "data", "source"), (WeightsParams, "weights", "mirror")):
        with pytest.raises(GroupedUserError) as caught:
            parse(cls, read()[section] | {key: address}, section)
        (fault,) = caught.value.faults
        assert str(fault).startswith(
            f"{section}.{key} = '{shown}'; expected an address without a password or token, which git would keep; "
        )


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("http://127.0.0.1:4200/api", "loopback"),
        ("http://127.1.2.3/", "loopback"),
        ("http://2130706433/", "loopback"),
        ("http://0.0.0.0/", "loopback"),
        ("https://[::1]/", "loopback"),
        ("https://[::ffff:127.0.0.1]/", "loopback"),
        ("http://localhost/", "loopback"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://10.0.0.1/", "private"),
        ("http://172.16.0.1/", "private"),
        ("http://192.168.1.1/", "private"),
        ("http://100.64.0.1/", "private"),
        ("http://[fd00::1]/", "private"),
    ],
)
def test_a_redirect_from_outside_into_this_network_is_a_fault(target: str, kind: str) -> None:
    assert redirect_fault("https://1.1.1.1/a.zip", target).endswith(f"', a {kind} address")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("https://1.1.1.1/a", "https://8.8.8.8/b"),
        ("https://1.1.1.1/a", "https://[2606:4700:4700::1111]/b"),
        ("http://127.0.0.1:1/a", "http://127.0.0.1:2/b"),
        ("http://10.0.0.1/a", "http://192.168.0.1/b"),
        ("http://10.0.0.1/a", "https://1.1.1.1/b"),
        ("https://1.1.1.1/a", "https://no-such-host.invalid/b"),
    ],
)
def test_a_redirect_to_the_outside_or_within_one_network_is_none(source: str, target: str) -> None:
    assert redirect_fault(source, target) == ""


def test_a_name_counts_by_each_address_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        found = {"rebound.example": ["1.1.1.1", "192.168.0.9"], "public.example": ["1.1.1.1"]}[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert redirect_fault("https://public.example/a", "https://rebound.example/b") == (
        "redirected to 'rebound.example', a private address"
    )


def test_a_redirect_from_the_loopback_to_other_networks_is_a_fault() -> None:
    assert redirect_fault("http://127.0.0.1:1/a", "http://169.254.169.254/").endswith("a link-local address")
