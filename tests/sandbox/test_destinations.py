"""Rules about hosts, and the names that stand for them."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.sandbox.destinations import PRESETS, THIS_MACHINE, Destinations, is_name, parse_rules
from lathe.sandbox.names import Names, is_stand_in
from lathe.sandbox.relay import Mismatch, server_name


@pytest.mark.parametrize(
    ("allow", "deny", "host", "port", "method", "expected"),
    [
        (["example.com"], [], "example.com", 443, None, "allowed"),
        (["example.com"], [], "www.example.com", 443, None, "unlisted"),
        (["EXAMPLE.com."], [], "example.com", 443, None, "allowed"),
        (["*.example.com"], [], "www.example.com", 443, None, "allowed"),
        (["*.example.com"], [], "example.com", 443, None, "unlisted"),
        (["*.example.com"], [], "notexample.com", 443, None, "unlisted"),
        (["example.com:443,8443"], [], "example.com", 8443, None, "allowed"),
        (["example.com:443"], [], "example.com", 80, None, "unlisted"),
        (["*"], ["bad.com"], "bad.com", 443, None, "denied"),
        (["*"], ["*.bad.com"], "x.bad.com", 443, None, "denied"),
        (["*"], [], "192.0.2.1", 443, None, "unlisted"),
        (["*"], [], THIS_MACHINE, 443, None, "unlisted"),
        ([THIS_MACHINE], [], THIS_MACHINE, 443, None, "allowed"),
        (["192.0.2.0/24:22"], [], "192.0.2.9", 22, None, "allowed"),
        (["192.0.2.0/24:22"], [], "192.0.3.9", 22, None, "unlisted"),
        (["[2001:db8::1]:443"], [], "2001:db8::1", 443, None, "allowed"),
        (["2001:db8::/32"], [], "2001:db8::1", 80, None, "allowed"),
        (["GET,HEAD example.com"], [], "example.com", 443, "GET", "allowed"),
        (["GET,HEAD example.com"], [], "example.com", 443, "POST", "unlisted"),
        (["get example.com"], [], "example.com", 443, None, "allowed"),
        (["example.com"], ["DELETE example.com"], "example.com", 443, "DELETE", "denied"),
        (["example.com"], ["DELETE example.com"], "example.com", 443, None, "allowed"),
        (["@registries"], [], "pypi.org", 443, None, "allowed"),
        (["@registries"], [], "upload.pypi.org", 443, None, "unlisted"),
        (["GET @registries"], [], "pypi.org", 443, "POST", "unlisted"),
    ],
)
def test_standing(allow: list[str], deny: list[str], host: str, port: int, method: str | None, expected: str) -> None:
    assert Destinations(allow, deny).standing(host, port, method)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "https://example.com", "example.com/path", "exa mple.com x", "-x.com", "a..b", "@nobody", "x.com:0"),
        *("x.com:", "x.com:99999", "FETCH x.com", "*.*.com", "ex*mple.com", "x.com\0.evil.com", "1.2.3"),
        "a" * 64 + ".com",
    ],
)
def test_a_rule_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rules([text])


def test_methods_are_looked_at_only_where_they_decide() -> None:
    some = Destinations(["GET a.com", "b.com", "c.com", "GET c.com"], ["POST b.com"])
    assert [some.by_method(host, 443) for host in ("a.com", "b.com", "c.com", "d.com")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("address", "allow", "refused"),
    [
        ("93.184.216.34", [], False),
        ("2606:2800:220:1::1", [], False),
        *((address, [], True) for address in ("127.0.0.1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "0.0.0.0")),
        *((address, [], True) for address in ("169.254.169.254", "168.63.129.16", "224.0.0.1", "::1", "fe80::1")),
        *((address, [], True) for address in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fd00:ec2::254")),
        ("10.1.2.3", ["10.0.0.0/8"], False),
        ("10.1.2.3", ["10.0.0.0/8:443"], False),
        ("10.1.2.3", ["10.0.0.0/8:80"], True),
        ("169.254.169.254", ["169.254.0.0/16"], True),
        ("169.254.169.254", ["169.254.169.254"], False),
        ("::ffff:169.254.169.254", ["*"], True),
    ],
)
def test_where_a_name_may_lead(address: str, allow: list[str], refused: bool) -> None:
    why = Destinations(["name.example", *allow]).refuses_address(ipaddress.ip_address(address), 443)
    assert bool(why) == refused


def test_presets_are_rules() -> None:
    for name in PRESETS:
        assert all(rule.name and not rule.name.startswith("*") for rule in parse_rules([f"@{name}"]))


# Names.


def query(name: str, kind: int = 1, *, number: bytes = b"\x12\x34") -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.split(".")) + b"\0"
    return number + b"\1\0\0\1\0\0\0\0\0\0" + labels + kind.to_bytes(2, "big") + b"\0\1"


def address_in(answer: bytes) -> str:
    return socket.inet_ntoa(answer[-4:])


def test_each_name_has_an_address_and_keeps_it() -> None:
    names = Names()
    first, second = names.answer(query("a.example")), names.answer(query("b.example"))
    assert first[:2] == b"\x12\x34"
    assert first[3] & 15 == 0
    assert first[7] == 1
    assert is_stand_in(address_in(first))
    assert address_in(first) != address_in(second)
    assert address_in(names.answer(query("A.Example"))) == address_in(first)
    assert names.name_of(address_in(first)) == "a.example"
    assert names.name_of("198.19.0.9") is None


@pytest.mark.parametrize(
    ("name", "kind", "code", "count"),
    [
        ("a.example", 28, 0, 0),  # AAAA
        ("a.example", 16, 0, 0),  # TXT
        ("nowhere.invalid", 1, 3, 0),
        ("1.0.0.127.in-addr.arpa", 12, 3, 0),
        ("sp ace.example", 1, 3, 0),
        ("nul\0.example", 1, 3, 0),
        ("x.localhost", 1, 0, 1),
    ],
)
def test_other_questions(name: str, kind: int, code: int, count: int) -> None:
    answer = Names().answer(query(name, kind))
    assert (answer[3] & 15, answer[7]) == (code, count)


@given(st.binary(max_size=300))
def test_a_damaged_question_does_no_harm(data: bytes) -> None:
    answer = Names().answer(data)
    assert len(answer) < 600
    assert not answer or answer[:2] == data[:2]


@given(st.text(max_size=80))
def test_a_name_has_nothing_in_it_that_others_read_differently(text: str) -> None:
    if is_name(text):
        assert text.isascii()
        assert not set(text) & set(" \0\r\n/@:%[]")
        with pytest.raises(ValueError):
            ipaddress.ip_address(text)


# The first words of a TLS client.


def hello_for(name: str) -> bytes:
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(name)
    one = context.wrap_bio(incoming, outgoing, server_hostname=name or None)
    with pytest.raises(ssl.SSLWantReadError):
        one.do_handshake()
    return outgoing.read()


def test_the_name_in_tls() -> None:
    said = hello_for("www.example.com")
    assert server_name(said) == (True, "www.example.com")
    for end in range(1, len(said)):
        assert server_name(said[:end]) == (False, "")
    body = said[5:]
    split = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in (body[:40], body[40:]))
    assert server_name(split) == (True, "www.example.com")
    assert server_name(hello_for("")) == (True, "")
    assert server_name(b"SSH-2.0-OpenSSH_9.2\r\n") == (True, "")


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_damaged_tls_does_no_harm(more: bytes, at: int, value: int) -> None:
    said = bytearray(hello_for("a.example") + more)
    said[at % len(said)] = value
    for data in (bytes(said), b"\x16" + more):
        try:
            server_name(data)
        except Mismatch:
            continue
