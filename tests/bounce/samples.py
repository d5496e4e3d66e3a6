"""Bounces as other hosts write them, of a message that we forwarded to `MAILBOX`: the shape of each, our own words."""

from __future__ import annotations

import base64
from collections.abc import Callable

HOST = "mx.fwd.example"
ALIAS, MAILBOX = "alice@fwd.example", "carol.private@mailbox.hidden.example"
ID = "330RQ19591WA"
RECEIVED = (
    f"Received: from mx.origin.example (mx.origin.example [192.0.2.7])\r\n"
    f"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n\tby {HOST} with ESMTPS id {ID}\r\n"
    f"\tfor <{ALIAS}>;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
)
SENT = (
    "Received: from desk (desk.origin.example [192.0.2.8])\r\n\tby mx.origin.example;\r\n"
    "\tTue, 14 Nov 2023 22:13:18 +0000\r\n"
    f"From: Joe <joe@origin.example>\r\nTo: {ALIAS}\r\nSubject: hello\r\nMessage-ID: <one@origin.example>\r\n"
)
ON_TOP = (
    "DKIM-Signature: v=1; a=rsa-sha256; d=fwd.example; s=relay1; b=xyz\r\n"
    "Authentication-Results: mx.fwd.example; spf=pass smtp.mailfrom=joe@origin.example\r\n"
)
BEHIND_US = (
    f"Return-Path: <SRS0=LbQK=JO=origin.example=joe@fwd.example>\r\nX-Original-To: {MAILBOX}\r\n"
    f"Delivered-To: {MAILBOX}\r\n"
    f"Received: from {HOST} ({HOST} [192.0.2.1])\r\n\tby mx.mailbox.hidden.example (Postfix) with ESMTP id 4ABC\r\n"
    f"\tfor <{MAILBOX}>; Tue, 14 Nov 2023 22:13:21 +0000 (UTC)\r\n"
)
HEADER = BEHIND_US + ON_TOP + RECEIVED + SENT
BODY = "Hello Alice.\r\n"
WORDS = f"550 5.1.1 <{MAILBOX}>: no such user here"


def report(
    *parts: str,
    boundary: str = "=_b",
    kind: str = "multipart/report; report-type=delivery-status",
    header: str = "Subject: Undelivered Mail\r\n",
) -> bytes:
    """A multipart message; a part is its header, a blank line, its body."""
    inner = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    start = f'{header}Content-Type: {kind};\r\n\tboundary="{boundary}"\r\nMIME-Version: 1.0\r\n\r\n'
    return (start + inner + f"--{boundary}--\r\n").encode()


def letter(text: str = f"{MAILBOX}: no such user") -> str:
    return f"Content-Type: text/plain; charset=us-ascii\r\n\r\n{text}\r\n"


def status(*fields: str, whole: str = "Reporting-MTA: dns; mx.mailbox.hidden.example\r\n") -> str:
    """The part for programs; a group of fields for each recipient."""
    return "Content-Type: message/delivery-status\r\n\r\n" + "\r\n".join([whole, *fields])


def failed(
    code: str = WORDS, *, enhanced: str = "5.1.1", action: str = "failed", original: str = MAILBOX, final: str = MAILBOX
) -> str:
    return (
        f"Final-Recipient: rfc822; {final}\r\nOriginal-Recipient: rfc822;{original}\r\nAction: {action}\r\n"
        f"Status: {enhanced}\r\nRemote-MTA: dns; inner.hidden.example\r\nDiagnostic-Code: smtp; {code}\r\n"
    )


def whole(header: str = HEADER) -> str:
    return f"Content-Type: message/rfc822\r\n\r\n{header}\r\n{BODY}"


def headers(header: str = HEADER, encoding: str = "7bit") -> str:
    if encoding == "base64":
        header = base64.encodebytes(header.encode()).decode().replace("\n", "\r\n")
    return f"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{header}"


def postfix() -> bytes:
    return report(
        "Content-Description: Notification\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        f"This is the mail system at host mx.mailbox.hidden.example.\r\n\r\n<{MAILBOX}>: {WORDS}\r\n",
        "Content-Description: Delivery report\r\n"
        + status(
            failed(),
            whole="Reporting-MTA: dns; mx.mailbox.hidden.example\r\nX-Postfix-Queue-ID: 4ABC\r\n"
            "X-Postfix-Sender: rfc822; SRS0=LbQK=JO=origin.example=joe@fwd.example\r\n"
            "Arrival-Date: Tue, 14 Nov 2023 22:13:21 +0000 (UTC)\r\n",
        ),
        "Content-Description: Undelivered Message\r\n" + whole(),
        boundary="4ABC.1700000001/mx.mailbox.hidden.example",
        header="From: MAILER-DAEMON@mailbox.hidden.example (Mail Delivery System)\r\nAuto-Submitted: auto-replied\r\n",
    )


def exim() -> bytes:
    return report(
        "Content-type: text/plain; charset=us-ascii\r\n\r\n"
        f"This message was created automatically by mail delivery software.\r\n\r\n  {MAILBOX}\r\n    {WORDS}\r\n",
        "Content-type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.mailbox.hidden.example\r\n\r\n"
        f"Action: failed\r\nFinal-Recipient: rfc822;{MAILBOX}\r\nStatus: 5.0.0\r\n"
        f"Remote-MTA: dns; inner.hidden.example\r\nDiagnostic-Code: smtp; {WORDS}\r\n",
        "Content-type: message/rfc822\r\n\r\n"
        + BEHIND_US
        + ON_TOP
        + RECEIVED.replace("\r\n\t", " ", 2)
        + SENT
        + "\r\n"
        + BODY,
        boundary="1700000001-eximdsn-123456",
        header=f"X-Failed-Recipients: {MAILBOX}\r\nAuto-Submitted: auto-replied\r\n",
    )


def exchange() -> bytes:
    letter_in_html = (
        'Content-Type: multipart/alternative; differences=Content-Type;\r\n\tboundary="inner"\r\n\r\n'
        f"--inner\r\nContent-Type: text/plain\r\n\r\n{MAILBOX} was not found\r\n--inner\r\n"
        f"Content-Type: text/html\r\n\r\n<b>{MAILBOX}</b>\r\n--inner--\r\n"
    )
    return report(
        letter_in_html,
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns;EX01.hidden.example\r\n"
        "Received-From-MTA: dns;mx.fwd.example\r\nArrival-Date: Tue, 14 Nov 2023 22:13:21 +0000\r\n\r\n"
        f"Original-Recipient: rfc822;{MAILBOX}\r\nFinal-Recipient: rfc822;{MAILBOX.upper()}\r\nAction: failed\r\n"
        "Status: 5.1.10\r\nDiagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient\r\n"
        f" {MAILBOX} not found by SMTP address lookup\r\nX-Display-Name: Carol Private\r\n",
        whole(
            "Received: from EDGE.hidden.example (10.0.0.1) by EX01.hidden.example (10.0.0.2) with Microsoft SMTP\r\n"
            " Server id 15.1; Tue, 14 Nov 2023 22:13:22 +0000\r\n"
            + HEADER
            + f"X-MS-Exchange-Organization-OriginalEnvelopeRecipients: {MAILBOX}\r\n"
        ),
        boundary="b1_ex",
        header="From: postmaster@hidden.example\r\nContent-Language: en-US\r\n",
    )


def gmail() -> bytes:
    related = (
        'Content-Type: multipart/related; boundary="00rel"\r\n\r\n--00rel\r\n'
        'Content-Type: multipart/alternative; boundary="00alt"\r\n\r\n--00alt\r\n'
        f'Content-Type: text/plain; charset="UTF-8"\r\n\r\n** Address not found **\r\n\r\n{MAILBOX}\r\n--00alt--\r\n'
        "--00rel\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--00rel--\r\n"
    )
    return report(
        related,
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; googlemail.example\r\n"
        "Arrival-Date: Tue, 14 Nov 2023 14:13:21 -0800 (PST)\r\nX-Original-Message-ID: <one@origin.example>\r\n\r\n"
        f"Final-Recipient: rfc822; {MAILBOX}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        "Remote-MTA: dns; inner.hidden.example. (192.0.2.99, the server for the domain hidden.example.)\r\n"
        f"Diagnostic-Code: smtp; 550-5.1.1 The email account {MAILBOX} does not exist.\r\n 550 5.1.1 Learn more\r\n"
        "Last-Attempt-Date: Tue, 14 Nov 2023 14:13:22 -0800 (PST)\r\n",
        whole(HEADER),
        boundary="000000000000a1b2c3",
        header="From: Mail Delivery Subsystem <mailer-daemon@googlemail.example>\r\nAuto-Submitted: auto-replied\r\n",
    )


def qmail() -> bytes:
    return (
        "From: MAILER-DAEMON@mailbox.hidden.example\r\nSubject: failure notice\r\n\r\n"
        "Hi. This is the qmail-send program at mailbox.hidden.example.\r\n"
        f"I'm afraid I wasn't able to deliver your message to the following addresses.\r\n\r\n<{MAILBOX}>:\r\n"
        "Sorry, no mailbox here by that name. (#5.1.1)\r\n\r\n--- Below this line is a copy of the message.\r\n\r\n"
        f"{HEADER}\r\n{BODY}"
    ).encode()


READABLE: dict[str, Callable[[], bytes]] = {"postfix": postfix, "exim": exim, "exchange": exchange, "gmail": gmail}
