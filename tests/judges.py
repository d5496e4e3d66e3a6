"""DKIM and ARC by others, who share no code with ours nor with each other: dkimpy, Perl's Mail::DKIM, and libopendkim.

Each verifier gets the message and the TXT records to believe, and says what it finds of every signature, top to bottom,
or of the ARC chain. None of them asks DNS.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import dkim

from tests.peers import program

Records = Mapping[str, str]


class Verdict(NamedTuple):
    """One signature: `result` is `pass`, or whatever else the judge calls it."""

    selector: str
    domain: str
    result: str


def dkimpy(message: bytes, records: Records) -> list[Verdict]:
    """What dkimpy says.

    Raises:
        dkim.MessageFormatError: a header line that it cannot read.
    """

    def answer(name: bytes, timeout: float = 5) -> bytes:
        return records.get(name.decode().rstrip("."), "").encode()

    verdicts = []
    verifier = dkim.DKIM(message)
    for index in range(sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)):
        try:
            result = "pass" if verifier.verify(idx=index, dnsfunc=answer) else "fail"
        except dkim.DKIMException as error:
            result = str(error)
        tags = verifier.signature_fields
        verdicts.append(Verdict(tags.get(b"s", b"").decode(), tags.get(b"d", b"").decode(), result))
    return verdicts


def dkimpy_arc(message: bytes, records: Records) -> str:
    """What dkimpy makes of the ARC chain: `none`, `pass`, or `fail` with its reason.

    Raises:
        dkim.MessageFormatError: a header line that it cannot read.
    """

    def answer(name: bytes, timeout: float = 5) -> bytes:
        return records.get(name.decode().rstrip("."), "").encode()

    result, _, reason = dkim.ARC(message).verify(dnsfunc=answer)
    return result.decode() if result in (dkim.CV_Pass, dkim.CV_None) else f"fail: {reason}"


# Reads "NAME<TAB>TEXT" lines up to an empty one, then messages: a line with what is to be verified ("dkim" or "arc")
# and their length, then their octets.
_MAIL_DKIM = r"""
use strict; use warnings; no warnings 'redefine';
use Mail::DKIM::Verifier; use Mail::DKIM::ARC::Verifier; use Net::DNS; use JSON::PP;
binmode STDIN; $| = 1;
my %records;
while (defined(my $line = <STDIN>)) {
    chomp $line; last if $line eq '';
    my ($name, $text) = split /\t/, $line, 2; $records{$name} = $text;
}
*Mail::DKIM::DNS::query_async = sub {
    my ($name, $type, %rest) = @_;
    my @found = exists $records{$name}
        ? (Net::DNS::RR->new(name => $name, type => 'TXT', txtdata => [$records{$name} =~ /(.{1,255})/g])) : ();
    my $key = $rest{Callbacks}{Success}->(@found);
    return sub { $key };
};
while (defined(my $order = <STDIN>)) {
    my ($what, $length) = split / /, $order;
    read(STDIN, my $message, $length);
    my $verifier = $what eq 'arc' ? Mail::DKIM::ARC::Verifier->new(Strict => 1) : Mail::DKIM::Verifier->new;
    $verifier->PRINT($message); $verifier->CLOSE;
    if ($what eq 'arc') { print encode_json([$verifier->result, $verifier->result_detail]), "\n"; next; }
    print encode_json([map { [$_->selector // '', $_->domain // '', $_->result_detail] } $verifier->signatures]), "\n";
}
"""


class MailDkim:
    """Perl's Mail::DKIM (RSA only, as Debian 12 has it), in one process for many messages; a context manager."""

    def __init__(self, records: Records) -> None:
        self._perl = subprocess.Popen(["perl", "-e", _MAIL_DKIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send("".join(f"{name}\t{text}\n" for name, text in records.items()).encode() + b"\n")

    def _send(self, data: bytes) -> None:
        assert self._perl.stdin is not None
        self._perl.stdin.write(data)
        self._perl.stdin.flush()

    def verify(self, message: bytes) -> list[Verdict]:
        return [Verdict(*found) for found in self._ask(b"dkim", message)]

    def arc(self, message: bytes) -> str:
        """What it makes of the ARC chain: `none`, `pass`, or `fail` or `invalid` with its reason."""
        result, detail = self._ask(b"arc", message)
        return str(result if result in ("none", "pass") else detail)

    def _ask(self, what: bytes, message: bytes) -> list[Any]:
        self._send(b"%s %d\n%s" % (what, len(message), message))
        assert self._perl.stdout is not None
        answer: list[Any] = json.loads(self._perl.stdout.readline())
        return answer

    def __enter__(self) -> MailDkim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._perl.communicate(timeout=10)


_OPENDKIM_RESULT = re.compile(r"dkim=(\w+)[^;]*? header\.d=(\S+)[^;]*? header\.s=(\S+)")


def opendkim(message: bytes, records: Records, folder: Path) -> list[Verdict]:
    """What libopendkim says, RSA and Ed25519, of the first three signatures; nothing where it refuses the message."""
    keys, config, mail = folder / "keys", folder / "opendkim.conf", folder / "message.eml"
    keys.write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    config.write_text(f"Mode v\nTestPublicKeys {keys}\nAlwaysAddARHeader yes\nAuthservID judge.example\n")
    mail.write_bytes(message)
    command = [program("opendkim"), "-x", str(config), "-t", str(mail), "-vvv"]
    done = subprocess.run(command, capture_output=True, timeout=20)
    output = re.sub(r"\s+", " ", done.stdout.decode("latin-1"))
    return [Verdict(selector, domain, result) for result, domain, selector in _OPENDKIM_RESULT.findall(output)]


# Reads the message, having the way to sign it as arguments; writes its signature.
_MAIL_DKIM_SIGNER = r"""
use strict; use warnings;
use Mail::DKIM::Signer; use Mail::DKIM::PrivateKey;
my ($method, $domain, $selector, $data) = @ARGV;
binmode STDIN; local $/; my $message = <STDIN>;
my $key = Mail::DKIM::PrivateKey->load(Data => $data);
my $signer = Mail::DKIM::Signer->new(
    Algorithm => 'rsa-sha256', Method => $method, Domain => $domain, Selector => $selector, Key => $key);
$signer->PRINT($message); $signer->CLOSE;
print $signer->signature->as_string, "\r\n";
"""


def mail_dkim_signature(message: bytes, method: str, domain: str, selector: str, pem: bytes) -> bytes:
    """The DKIM-Signature that Mail::DKIM makes with an RSA key in PKCS#1, with `method` as canonicalization."""
    return _perl(_MAIL_DKIM_SIGNER, method, domain, selector, _base64_of(pem), message=message)


# Reads the message, having the way to seal it as arguments; writes its ARC set.
_MAIL_DKIM_SEALER = r"""
use strict; use warnings;
use Mail::DKIM::ARC::Signer; use Mail::DKIM::PrivateKey;
my ($chain, $domain, $selector, $authserv_id, $data) = @ARGV;
binmode STDIN; local $/; my $message = <STDIN>;
my $key = Mail::DKIM::PrivateKey->load(Data => $data);
my $signer = Mail::DKIM::ARC::Signer->new(
    Algorithm => 'rsa-sha256', Chain => $chain, Domain => $domain, Selector => $selector, Key => $key,
    SrvId => $authserv_id);
$signer->PRINT($message); $signer->CLOSE;
die $signer->result_detail unless $signer->result eq 'sealed';
print map { "$_\r\n" } $signer->as_strings;
"""


def mail_dkim_seal(message: bytes, chain: str, domain: str, selector: str, authserv_id: str, pem: bytes) -> bytes:
    """The ARC set that Mail::DKIM makes with an RSA key in PKCS#1, with `chain` as `cv=`.

    The message has an Authentication-Results of `authserv_id` on top.
    """
    return _perl(_MAIL_DKIM_SEALER, chain, domain, selector, authserv_id, _base64_of(pem), message=message)


def _base64_of(pem: bytes) -> str:
    return b"".join(line for line in pem.splitlines() if not line.startswith(b"-----")).decode()


def _perl(program: str, *arguments: str, message: bytes) -> bytes:
    command = ["perl", "-e", program, *arguments]
    return subprocess.run(command, input=message, capture_output=True, check=True, timeout=20).stdout
