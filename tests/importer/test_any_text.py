"""Whatever a file says, an import refuses it in one line, or makes TOML of it."""

from __future__ import annotations

import tempfile
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.importer.draft import ImportFailed
from relay.importer.folder import ask_for_missing
from relay.importer.text import config_text, summary
from tests.importer.loading import everything, required

# For each reader its name for the file, and lines that lead into most of it.
LINES = {
    "postsrsd": (
        "postsrsd",
        [
            "SRS_DOMAIN=a.example\n",
            "SRS_EXCLUDE_DOMAINS='",
            "SRS_EXTRA_OPTIONS=-A\n",
            "[Service]\n",
            "ExecStart=/x ",
            "SRS_HASHMIN=",
        ],
    ),
    "postsrsd ": ("postsrsd.conf", ["domains = {", "srs-domain = ", "socketmap = inet:", "hash-length = ", "/* "]),
    "opendkim": (
        "opendkim.conf",
        ["Domain ", "KeyFile /x\n", "KeyTable csl:", "InternalHosts ", "Mode s\n", "On-Default "],
    ),
    "opendmarc": ("opendmarc.conf", ["RejectFailures ", "IgnoreHosts ", "TrustedAuthservIDs ", "DomainWhitelist "]),
    "policyd_spf": ("policyd-spf.conf", ["Mail_From_reject = ", "Whitelist = ", "HELO_Whitelist = ", "TestOnly = "]),
    "postfix": (
        "main.cf",
        [
            "mynetworks = ",
            "myhostname = ",
            "relay_domains = ",
            "transport_maps = inline:{ ",
            "relayhost = ",
            "mydestination = ",
            "smtpd_sasl_auth_enable = yes\n",
            "smtpd_sasl_type = dovecot\nsmtpd_sasl_path = ",
            "smtpd_sender_login_maps = inline:{ ",
            "smtpd_tls_chain_files = ",
            "tls_server_sni_maps = inline:{ ",
        ],
    ),
    "postfix ": (
        "master.cf",
        [
            "smtp inet n - y - - smtpd ",
            "submission inet n - y - - smtpd ",
            "[::1]:465 inet n - y - - smtpd ",
            "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd ",
            "-o smtpd_sasl_auth_enable=yes ",
            "-o smtpd_tls_wrappermode=yes ",
            "-o { smtpd_relay_restrictions = permit_sasl_authenticated reject } ",
            "-o smtpd_tls_cert_file=",
            "-o inet_interfaces=",
        ],
    ),
}
MAIN_CF = "myhostname = mx.a.example\nsmtpd_sasl_type = dovecot\nsmtpd_tls_cert_file = /x\n"
PARTS = [
    *(
        '"',
        "'",
        "{",
        "}",
        "(",
        ")",
        "$",
        "${",
        "$(",
        "`",
        "\\",
        "\n",
        "\n ",
        "=",
        "+=",
        "#",
        ",",
        ":",
        "[",
        "]",
        "/",
        "*",
    ),
    *(
        "@",
        "!",
        "0",
        "-1",
        "9" * 20,
        "\x1b",
        "\u202e",
        "\x7f",
        "\udce9",
        "hash:/x",
        "static:a:b",
        "10.0.0.0/8",
        "0.0.0.0/0",
    ),
    *(
        "::1",
        "a.example",
        ".b.example",
        "smtp:[c.example]:25",
        "$myhostname",
        "${relayhost?{x}:{y}}",
        "off",
        "yes",
        " ",
    ),
]


@pytest.mark.parametrize("reader", LINES)
@given(data=st.data())
def test_any_text_is_refused_or_becomes_toml(reader: str, data: st.DataObject) -> None:
    name, lines = LINES[reader]
    text = "".join(data.draw(st.lists(st.sampled_from([*lines, *lines, *PARTS]), max_size=25)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        if name == "master.cf":
            path = path.with_name("main.cf")
            path.write_text(MAIN_CF)
        try:
            draft = import_module(f"relay.importer.{reader.strip()}").read(path)
        except ImportFailed as error:
            assert "\n" not in str(error)
            return
        ask_for_missing(draft)
    written = config_text(draft)
    for variant in (written, everything(written), required(written)):
        tomllib.loads(variant)
    assert all("\n" not in line for line in summary(draft))
