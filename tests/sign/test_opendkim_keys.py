"""OpenDKIM's files read as OpenDKIM reads them, and what is wrong with them told by file and line."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relay.sign.opendkim_keys import read_rules
from relay.sign.signing_table import SigningTable
from tests import corpus
from tests.peers import needs, program

NOW = 1_790_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a key for `%` in each of two domains."""
    for name in ("a.example", "b.example"):
        (tmp_path / "keys" / name).mkdir(parents=True)
        (tmp_path / "keys" / name / "mail.private").write_bytes(corpus.RSA_PEM)
    (tmp_path / "key.pem").write_bytes(corpus.RSA_PEM)
    return tmp_path


def write(folder: Path, signing: str, keys: str, conf: str) -> None:
    keys = keys.replace("FOLDER", str(folder))
    (folder / "KeyTable").write_text(keys)
    (folder / "SigningTable").write_text(signing)
    if conf:
        text = f"KeyTable file:{folder}/KeyTable\n{conf.replace('FOLDER', str(folder))}\n"
        (folder / "opendkim.conf").write_text(text)


def chosen(folder: Path, address: str) -> list[str]:
    """The signatures that a message of an author gets, as `selector d=`."""
    user, _, domain = address.rpartition("@")
    found = SigningTable(read_rules(folder), ()).select(user.lower(), domain.lower(), NOW)
    return [f"{key.selector} {key.domain}" for key in found]


# --- the choice, beside OpenDKIM itself -------------------------------------------------------------------------------

KEYS = """\
# name  domain:selector:file
org     example.org:s-org:FOLDER/key.pem
user    example.org:s-user:FOLDER/key.pem   # one user
user    example.org:s-second:FOLDER/key.pem
any     %:s-any:FOLDER/key.pem
each    %:s-each:FOLDER/keys/%/mail.private
own     a.example:s-own:FOLDER/keys/%/mail.private
b.example b.example:s-named:FOLDER/key.pem
"""
PLAIN = "SigningTable FOLDER/SigningTable"
PATTERNS = "SigningTable refile:FOLDER/SigningTable"
MULTIPLE = "\nMultipleSignatures yes"
AUTHORS = [
    "alice@example.org",
    "NEWS@Example.ORG",
    "alice@sub.example.org",
    "news@deep.sub.example.org",
    "alice@notexample.org",
    "alice@a.example",
    "alice@b.example",
    "news@elsewhere.example",
    "alice@elsewhere.example",
    "a+b@example.org",
]


@pytest.mark.parametrize(
    ("signing", "conf"),
    [
        ("news@example.org user\nexample.org org\n.example.org any\n* b.example\n", PLAIN),
        ("* any\nnews@* user\n.sub.example.org org\nnews@.example.org user\n.example.org any\n", PLAIN),
        ("example.org org\nexample.org user\nNews@Example.org user:@example.org\n", PLAIN),
        ("example.org org\n.example.org any\n* any\n", PLAIN + MULTIPLE),
        ("a.example own\nb.example %\n.example.org any\n", PLAIN),
        ("*@example.org org\n*@*.example.org any\nnews@* user\n", PATTERNS),
        ("# all\n\n* any\n*@example.org org\n", PATTERNS),
        ("*example.org org\n*a*@b.example any\na+b@* user\n", PATTERNS),
        ("example.org org\n*@a.example\town:@a.example\n", PATTERNS),
        ("*@a.example each\n*@b.example %\n*@*.example.org any\n", PATTERNS),
        ("*@example.org org\nnews@* user\n*@*.example.org any\n", PATTERNS + MULTIPLE),
        ("x", "SigningTable csl:example.org=org,.example.org=any, news@example.org=user"),
    ],
)
@needs("opendkim")
def test_the_keys_are_those_that_opendkim_takes(folder: Path, signing: str, conf: str) -> None:
    write(folder, signing, KEYS, conf)
    ours = {author: chosen(folder, author) for author in AUTHORS}
    assert any(ours.values())
    assert ours == {author: opendkim_signs(folder, author) for author in AUTHORS}


def opendkim_signs(folder: Path, author: str) -> list[str]:
    conf, mail = folder / "judge.conf", folder / "mail"
    conf.write_text((folder / "opendkim.conf").read_text() + "Mode s\nRequireSafeKeys no\n")
    mail.write_bytes(f"From: Someone <{author}>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nHi.\r\n".encode())
    command = [program("opendkim"), "-x", str(conf), "-t", str(mail), "-vvv"]
    output = subprocess.run(command, capture_output=True, timeout=20, text=True)
    assert "TEMPFAIL" not in output.stderr
    signatures = re.findall(r"hname='DKIM-Signature' hvalue='[^']*?\bd=([^;]+);\s*s=([^;]+);", output.stdout)
    return list(dict.fromkeys(f"{selector} {domain}" for domain, selector in signatures))  # it may sign twice the same


# --- what is filled in before any message comes -----------------------------------------------------------------------


def test_the_authors_domain_is_filled_in_from_the_files_that_are_there(folder: Path) -> None:
    (folder / "keys" / "no domain").mkdir()
    (folder / "keys" / "no domain" / "mail.private").write_bytes(corpus.RSA_PEM)
    write(folder, "*@* each\n", KEYS, PATTERNS)
    assert chosen(folder, "x@a.example") == ["s-each a.example"]
    assert chosen(folder, "x@c.example") == chosen(folder, "x@../keys/a.example") == []


@pytest.mark.parametrize("conf", [PLAIN, PATTERNS])
def test_domains_are_compared_as_dns_has_them(folder: Path, conf: str) -> None:
    star = "*@" if conf is PATTERNS else ""
    below = "*@*" if conf is PATTERNS else ""
    write(folder, f"{star}Bücher.example org\n{below}.Bücher.example any\n", KEYS, conf)
    assert chosen(folder, "x@xn--bcher-kva.example") == ["s-org example.org"]
    assert chosen(folder, "x@a.xn--bcher-kva.example") == ["s-any a.xn--bcher-kva.example"]


def test_a_key_that_is_named_as_the_authors_domain_comes_from_the_key_table(folder: Path) -> None:
    write(folder, "*@*.example %\n", KEYS, PATTERNS)
    assert chosen(folder, "x@b.example") == ["s-named b.example"]
    assert chosen(folder, "x@c.example") == []


def test_a_key_may_stand_in_the_table_itself(folder: Path) -> None:
    der = base64.b64encode(corpus.PKCS8_ED25519 + corpus.ED25519_SEED).decode()
    write(folder, "*@x.example inline\n", f"inline x.example:s:{der}\n", PATTERNS)
    [rule] = read_rules(folder)
    assert rule.keys[0].public_record() == corpus.ED25519.public_record()


def test_one_key_without_tables(folder: Path) -> None:
    conf = f"Domain Example.org, b.example\nSelector\tmail # s=\nKeyFile {folder}/key.pem\nSubDomains yes\n"
    (folder / "opendkim.conf").write_text(conf)
    assert chosen(folder, "x@example.org") == chosen(folder, "x@deep.sub.example.org") == ["mail example.org"]
    assert chosen(folder, "x@other.example") == []


PACKAGED = Path("/etc/opendkim.conf")


@needs("opendkim")
@pytest.mark.parametrize("subdomains", [False, True])
@pytest.mark.parametrize("named", ["file", "folder of the keys"])
def test_the_file_of_the_package_with_its_one_key_signs_as_opendkim_does(
    folder: Path, subdomains: bool, named: str
) -> None:
    """The lines that are commented out there, without the `#`."""
    keys = folder / "dkimkeys"
    keys.mkdir()
    (keys / "example.private").write_bytes(corpus.RSA_PEM)
    conf = PACKAGED.read_text()
    for line in ("Domain\t\t\texample.com", "Selector\t\t2020", "KeyFile\t\t/etc/dkimkeys/example.private"):
        assert f"\n#{line}\n" in conf
        conf = conf.replace(f"#{line}", line.replace("/etc/dkimkeys", str(keys)))
    if subdomains:
        conf = conf.replace("#SubDomains\t\tno", "SubDomains\tyes")
    (folder / "opendkim.conf").write_text(conf)
    place = folder / "opendkim.conf" if named == "file" else keys
    authors = ["x@example.com", "x@sub.example.com", "x@notexample.com", "x@other.example"]
    ours = {author: chosen(place, author) for author in authors}
    assert ours["x@example.com"] == ["2020 example.com"]
    own_settings = ("UserID", "UMask", "Socket", "PidFile")
    lines = [line for line in conf.splitlines() if not line.startswith(own_settings)]
    (folder / "opendkim.conf").write_text("\n".join(lines) + "\n")
    assert ours == {author: opendkim_signs(folder, author) for author in authors}


def test_the_file_itself_names_tables_and_nothing_else_is_searched(folder: Path) -> None:
    conf = folder / "opendkim.conf"
    write(folder, "*@a.example own\n", KEYS, PATTERNS)
    assert chosen(conf, "x@a.example") == ["s-own a.example"]
    conf.write_text("Syslog yes\n")
    said = rf"{conf}: no KeyTable and SigningTable, nor Domain, Selector and KeyFile"
    with pytest.raises(ValueError, match=said):
        read_rules(conf)


def test_a_key_in_the_file_may_be_relative_to_it_or_to_the_base_directory(folder: Path) -> None:
    conf = folder / "opendkim.conf"
    conf.write_text("Domain example.org\nSelector mail\nKeyFile key.pem\n")
    assert chosen(conf, "x@example.org") == ["mail example.org"]
    (folder / "elsewhere").mkdir()
    (folder / "key.pem").rename(folder / "elsewhere" / "key.pem")
    conf.write_text(conf.read_text() + f"BaseDirectory {folder}/elsewhere\n")
    assert chosen(conf, "x@example.org") == ["mail example.org"]


def test_a_key_that_only_opendkim_may_read_is_told_with_its_mend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = folder / "opendkim.conf"
    conf.write_text(f"Domain example.org\nSelector mail\nKeyFile {folder}/key.pem\n")

    original = Path.open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "key.pem":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ValueError, match=rf"conf:3: {folder}/key.pem: Permission denied: let the user of the relay"):
        read_rules(conf)


@pytest.mark.parametrize(("pattern", "author"), [("*@a.example", "x@a.example"), ("a.example", "x@a.example")])
def test_without_a_configuration_the_tables_have_their_usual_names(folder: Path, pattern: str, author: str) -> None:
    write(folder, f"{pattern} own\n", KEYS, "")
    assert chosen(folder, author) == ["s-own a.example"]


def test_the_configuration_may_stand_beside_the_folder_and_include_another(folder: Path) -> None:
    inner = folder / "opendkim"
    inner.mkdir()
    (folder / "opendkim.conf").write_text("SigningTable x\nInclude more.conf\n")
    (folder / "more.conf").write_text(f"KeyTable {folder}/KeyTable\nSigningTable refile:{folder}/SigningTable\n")
    write(folder, "*@a.example own\n", KEYS, "")
    assert chosen(inner, "x@a.example") == ["s-own a.example"]


# --- what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signing", "keys", "conf", "said"),
    [
        ("*@x.example\n", KEYS, PATTERNS, r"/SigningTable:1: \*@x\.example: the name of a key is missing"),
        ("\n*@x.example nobody\n", KEYS, PATTERNS, r"/SigningTable:2: the KeyTable has no key 'nobody'"),
        ("x.example %\n", KEYS, PLAIN, r"/SigningTable:1: the KeyTable has no key 'x\.example'"),
        ("*@(x|y).example org\n", KEYS, PATTERNS, r"/SigningTable:1: .*: only \* is a wildcard here"),
        (
            "*@x.example k\n",
            "\nk x.example:s\n",
            PATTERNS,
            r"/KeyTable:2: k: a key is written NAME DOMAIN:SELECTOR:FILE",
        ),
        ("*@x.example k\n", "k x y:s:/z\n", PATTERNS, r"/KeyTable:1: 'x y' is not a domain name"),
        ("*@x.example k\n", "k x.example:%:/z\n", PATTERNS, r"/KeyTable:1: k: % is no selector"),
        ("*@x.example k\n", "k x.example:s:/no/key.pem\n", PATTERNS, r"/KeyTable:1: /no/key\.pem: No such file"),
        (
            "*@x.example k\n",
            "k x.example:s:FOLDER/KeyTable\n",
            PATTERNS,
            r"/KeyTable:1: /.*/KeyTable: not a private key",
        ),
        ("*@x.example k\n", "k x.example:s:key.pem\n", PATTERNS, r"/KeyTable:1: "),
        ("*@x.example any\n", KEYS, "SigningTable ldap://h/x", r"opendkim\.conf:2: ldap://h/x: only text files"),
        ("*@x.example any\n", KEYS, "SigningTable /x.db", r"opendkim\.conf:2: /x\.db: only text files"),
        ("*@x.example any\n", KEYS, "SigningTable /gone", r"/gone"),
        ("*@x.example any\n", KEYS, "Include opendkim.conf", r"opendkim\.conf:2: more than 5 files that include"),
    ],
)
def test_what_cannot_be_used_is_told_by_file_and_line(
    folder: Path, signing: str, keys: str, conf: str, said: str
) -> None:
    write(folder, signing, keys, conf)
    with pytest.raises((ValueError, OSError), match=said):
        read_rules(folder)


def test_a_key_in_the_table_is_never_shown(folder: Path) -> None:
    secret = base64.b64encode(b"secret" * 20).decode()
    write(folder, "*@x.example k\n", f"k x.example:s:{secret}\n", PATTERNS)
    with pytest.raises(ValueError, match="not a private key") as caught:
        read_rules(folder)
    assert secret[:8] not in str(caught.value)


def test_half_of_the_tables_is_refused(folder: Path) -> None:
    write(folder, "", KEYS, "")
    (folder / "SigningTable").unlink()
    with pytest.raises(ValueError, match="a KeyTable and a SigningTable belong together"):
        read_rules(folder)
    (folder / "KeyTable").unlink()
    with pytest.raises(ValueError, match="no KeyTable and SigningTable, nor Domain, Selector and KeyFile"):
        read_rules(folder)
    with pytest.raises(ValueError, match="gone: no such folder"):
        read_rules(folder / "gone")


def test_every_entry_for_an_author_signs_if_several_may(folder: Path) -> None:
    """As opendkim.conf(5) says; Debian's OpenDKIM leaves out some of them where one of several is for a user."""
    write(folder, "news@example.org user\nexample.org org\n* any\n", KEYS, PLAIN + MULTIPLE)
    assert chosen(folder, "news@example.org") == ["s-user example.org", "s-org example.org", "s-any example.org"]
