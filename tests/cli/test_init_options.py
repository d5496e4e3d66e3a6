"""What the options of `init` take, and what they say of anything else."""

from __future__ import annotations

import pytest
import typer

from relay.cli import init_options
from relay.route.alias_file import parse_virtual


@pytest.mark.parametrize("name", ["mx.fwd.example", "MX.Fwd.Example.", "mx.corp.internal", "mx1.xn--4gbrim.example"])
def test_a_host_name_has_a_dot(name: str) -> None:
    assert init_options.host_name(name) == name.lower().rstrip(".")


@pytest.mark.parametrize("name", ["localhost", "mx", "localhost.localdomain", "203.0.113.5", "mx fwd.example", "", "."])
def test_what_is_no_host_name_is_refused_with_one_that_is(name: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"like mx\.fwd\.example"):
        init_options.host_name(name)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("8.8.8.8", "8.8.8.8"),
        ("2001:DB8:7::19", "2001:db8:7::19"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
    ],
)
def test_a_public_address_is_taken(given: str, address: str) -> None:
    assert init_options.public_address(given) == address


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("10.0.0.5", "private or reserved"),
        ("100.64.0.1", "private or reserved"),
        ("192.168.1.1", "private or reserved"),
        ("fd00::1", "private or reserved"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:10.0.0.5", "private or reserved"),
    ],
)
def test_an_address_that_nobody_reaches_is_refused_with_its_mend(given: str, kind: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        init_options.public_address(given)
    assert f"{given} is not a public address ({kind})" in str(caught.value)
    assert "behind a NAT that of the router, or leave --address out" in str(caught.value)


@pytest.mark.parametrize("given", ["mx.fwd.example", "203.0.113.5/24", "203.0.113", ""])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not an IP address"):
        init_options.public_address(given)


def test_several_addresses_in_one_are_told_apart() -> None:
    with pytest.raises(typer.BadParameter, match="give each address an --address of its own"):
        init_options.public_address("203.0.113.5,2001:db8::5")


@pytest.mark.parametrize(
    ("pair", "entry"),
    [
        (("alice", "al@mailbox.example"), ("alice@fwd.example", "al@mailbox.example")),
        (("a@x.example", "b@y.example, c@y.example"), ("a@x.example", "b@y.example, c@y.example")),
        (("a@x.example", '"b,c"@y.example,d@y.example'), ("a@x.example", '"b,c"@y.example, d@y.example')),
        (("@Club.example", "al@mailbox.example"), ("@club.example", "al@mailbox.example")),
        (("@old.example", "@fwd.example"), ("@old.example", "@fwd.example")),
        (("#1@x.example", "b@y.example"), ('"#1"@x.example', "b@y.example")),
        (("/G=John/S=Doe/@x.example", "b@y.example"), ("/G=John/S=Doe/@x.example", "b@y.example")),
        (('"a b"@x.example', "b@y.example"), ('"a b"@x.example', "b@y.example")),
    ],
)
def test_an_alias_is_written_as_the_table_reads_it(pair: tuple[str, str], entry: tuple[str, str]) -> None:
    assert init_options.aliases([pair], "fwd.example") == [entry]
    table = parse_virtual(f"{entry[0]}    {entry[1]}\n", "aliases", ["fwd.example"])
    assert not table.bad.lines
    pattern = entry[0] if entry[0][0] != "@" else f"u{entry[0]}"
    expanded = [f"u{target}" if target[0] == "@" else target for target in init_options.targets_of(entry[1])]
    assert list(table.expand(pattern) or ()) == expanded


@pytest.mark.parametrize(
    "pattern", ["/^re/", "/^info@fwd\\.example$/", "/^(a|b)@fwd.example$/i", "!/^info/", "/.*@x.example/", "/^sales"]
)
def test_a_regular_expression_is_named_as_one(pattern: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        init_options.aliases([(pattern, "b@y.example")], "fwd.example")
    assert "is a regular expression" in str(caught.value)
    assert "(alice@fwd.example)" in str(caught.value) and "(@fwd.example)" in str(caught.value)


@pytest.mark.parametrize(
    "pair",
    [
        ("a b", "b@y.example"),
        ("alice", "al"),
        ("alice", ""),
        ("alice", "|/bin/cat"),
        ("", "b@y.example"),
        ("@", "b@y.example"),
        ("@fwd", "b@y.example"),
        ("alice", "@y.example"),
        ("@x.example", "@"),
        ("alice", "b@y.example c@y.example"),
    ],
)
def test_a_bad_alias_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(typer.BadParameter):
        init_options.aliases([pair], "fwd.example")


@pytest.mark.parametrize(
    ("first", "second"),
    [("a@x.example", "A@X.example"), ("alice", "alice@fwd.example"), ("@x.example", "@X.EXAMPLE")],
)
def test_an_alias_is_given_once(first: str, second: str) -> None:
    with pytest.raises(typer.BadParameter, match="there twice; one entry may have several targets"):
        init_options.aliases([(first, "b@y.example"), (second, "c@y.example")], "fwd.example")


def test_a_wrong_next_hop_is_refused_with_the_form() -> None:
    assert str(init_options.next_hop("lmtp://[2001:db8::5]")) == "lmtp://[2001:db8::5]:24"
    with pytest.raises(typer.BadParameter, match="lmtp://host:port"):
        init_options.next_hop("10.0.0.5:24")
