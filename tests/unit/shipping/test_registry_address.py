"""Addresses of packages in registries."""

import time

import pytest

from toolchain.errors import BadUsage
from toolchain.shipping.registry.address import Address, address

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("oci://localhost:5000/digits:1", Address("localhost:5000", "digits", "1", None)),
        ("oci://ghcr.io/team/a-b/net__v2.x:V1.0_rc-1", Address("ghcr.io", "team/a-b/net__v2.x", "V1.0_rc-1", None)),
        (f"oci://[::1]:5000/a@{DIGEST}", Address("[::1]:5000", "a", None, DIGEST)),
        (f"oci://registry.example/a/b:1@{DIGEST}", Address("registry.example", "a/b", "1", DIGEST)),
    ],
)  # fmt: skip
def test_what_an_address_names(text: str, meant: Address) -> None:
    assert address(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "oci://", "oci:///a:1", "oci://host", "oci://host/", "oci://host/:1", "oci://host/a:", "oci://host/a",
        "oci://host/A:1", "oci://host/a//b:1", "oci://host/../b:1", "oci://host/a:1@sha256:00", "oci://host/a:1@md5:00",
        "oci://user@host/a:1", "oci://-host/a:1", "oci://host:port/a:1", "oci://host/a:1?x", "oci://host/a:1#x",
        "oci://host/a:.1", "oci://host/a:1\n", "oci://host/a%2fb:1", "http://host/a:1", "oci://hö.de/a:1",
        f"oci://host/a:{'1' * 129}",
    ],
)  # fmt: skip
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(BadUsage):
        address(text)


def test_an_endless_address_is_refused_at_once() -> None:
    began = time.monotonic()
    for text in ("oci://h/" + "a-" * 100_000, "oci://h/" + "a_" * 480 + "!", "oci://" + "a.-" * 300 + "!"):
        with pytest.raises(BadUsage):
            address(text)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("registry", "here"),
    [("localhost:5000", True), ("127.0.0.1", True), ("[::1]:5000", True), ("localhost.example", False)],
)
def test_which_registries_are_on_this_machine(registry: str, here: bool) -> None:
    assert Address(registry, "a", "1", None).is_here is here


def test_docker_hub_answers_under_another_name() -> None:
    assert address("oci://docker.io/me/net:1").host == "registry-1.docker.io"
