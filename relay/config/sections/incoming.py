"""The tables about mail that comes in: listeners, what is accepted, and from whom."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, model_validator

from relay.config.sections.base import OwnNetworks, Section
from relay.config.sections.dns_lists import DnsblSection, DnswlSection
from relay.config.table_sources import TableSources
from relay.config.values import (
    AuthservId,
    DomainName,
    DomainPattern,
    Duration,
    File,
    Limits,
    Size,
    SocketAddress,
    Timeout,
)


class ListenSection(Section):
    """A port where mail comes in. Each port has a table of its own. Only a configuration with `[[tables]]` may have
    none."""

    address: SocketAddress = Field(examples=["0.0.0.0:25", "[::]:25"])
    """The address and port to listen on. IPv6 needs a listener of its own."""

    tls: Literal["none", "starttls", "require", "implicit"] | None = Field(None, examples=["none"])
    """TLS on this port: "none" has no TLS, "starttls" offers it, "require" takes no mail without it, "implicit" uses
    TLS from the first octet. Default: "starttls" where there is a table `[tls]`, otherwise "none"."""

    auth: Literal["none", "offered", "required"] = "none"
    """Whether clients can log in on this port (AUTH, RFC 4954), which they can inside TLS only: "none" offers no login;
    "offered" lets clients log in, and takes mail from others as on any port; "required" takes mail only from clients
    that have logged in, trusted clients included. It needs `[auth]`. A port where other hosts bring mail (25, as MX)
    must not require it."""

    proxy_protocol: bool = False
    """Whether a proxy in front (HAProxy, PROXY protocol version 1 or 2) tells us the client's address. The relay
    believes it from `proxies` only, and drops connections of everyone else on that port."""

    proxies: OwnNetworks = (ipaddress.ip_network("127.0.0.1/32"),)
    """The addresses and networks of the proxies. A proxy may claim any client address, those of trusted clients too, so
    networks wider than /8 (IPv6: /16) are refused."""


class CertificateSection(Section):
    """A certificate that listeners show, where there are several: each has a table of its own, and the first is shown
    to clients that name no host or one that no certificate is for. Two for the same name are both used if one has an
    RSA key and the other an elliptic one; of two with keys of the same kind the first is shown."""

    certificate: File = Field(examples=["mx.fwd.example.pem"])
    """The certificate and its chain, in PEM."""

    private_key: File = Field(examples=["mx.fwd.example.key"])
    """The private key of the certificate, in PEM."""

    hosts: tuple[DomainPattern, ...] = Field((), examples=[["mx.fwd.example", "*.mail.example"]])
    """The names of hosts (SNI) for which it is shown. "*.mail.example" stands for one more label, and "*" for every
    name; the exact name goes first. Default: the names in the certificate."""


class TlsSection(Section):
    """The certificates that the listeners show to clients. Their files are read again when they change; one that cannot
    be used keeps its old one."""

    certificate: File | None = Field(None, examples=["fullchain.pem"])
    """The certificate and its chain, in PEM. Default: the first of `[[tls.certificates]]`."""

    private_key: File | None = Field(None, examples=["privkey.pem"])
    """The private key of the certificate, in PEM. Default: the first of `[[tls.certificates]]`."""

    certificates: tuple[CertificateSection, ...] = ()

    @model_validator(mode="after")
    def _some_certificate(self) -> TlsSection:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together")
        if self.certificate is None and not self.certificates:
            raise ValueError("name certificate and private_key, or write a table [[tls.certificates]]")
        return self

    @property
    def named_pairs(self) -> list[tuple[str, CertificateSection]]:
        """All certificates with their keys, each with the name of its table; the first is the default."""
        named = [(f"tls.certificates.{number}", pair) for number, pair in enumerate(self.certificates)]
        if self.certificate is None or self.private_key is None:
            return named
        return [("tls", CertificateSection(certificate=self.certificate, private_key=self.private_key)), *named]

    @property
    def pairs(self) -> tuple[CertificateSection, ...]:
        """All certificates with their keys; the first is the default."""
        return tuple(pair for _, pair in self.named_pairs)


class AuthSection(Section):
    """Who can log in, and which senders they may use. Either `users` or `dovecot` checks the passwords."""

    users: File | None = Field(None, examples=["users"])
    """The file of users and the hashes of their passwords, which `srs-relay users add` writes: lines
    `name:$argon2id$…`, comments with `#`. The case of names does not matter. Clients log in with PLAIN or LOGIN. The
    file is read again when it changes. Default: `auth.dovecot` checks them."""

    dovecot: File | None = Field(None, examples=["/run/dovecot/auth-client"])
    """The socket of a Dovecot that checks logins (`service auth { unix_listener auth-client … }`). Its mechanisms are
    offered, OAUTHBEARER, XOAUTH2 and SCRAM included, but never ANONYMOUS, EXTERNAL, or one with channel binding
    (-PLUS). Where Dovecot is not there yet, the relay starts without it. Default: `auth.users` checks them."""

    senders: File | None = Field(None, examples=["senders"])
    """The file of the senders that users may use besides their own: lines `name address-or-@domain…`, of which several
    for a name add up. `@domain` is all of that domain, without those below it, and without our SRS and reply addresses,
    which stand for others. A user has the address that is his name; one whose name has no `@` has it in each of
    `senders.local_domains`. `user+detail` is `user`. Everyone may use the null sender. A user's mail with another
    sender, or another author in From, gets 550 5.7.1. The file is read again when it changes. Default: their own
    senders only."""

    @model_validator(mode="after")
    def _one_source(self) -> AuthSection:
        if (self.users is None) == (self.dovecot is None):
            raise ValueError("set either users or dovecot")
        return self


class ReceiveSection(Section):
    """What a message may look like."""

    bare_newline: Literal["reject", "normalize"] = "reject"
    """What to do with a bare CR or LF in a message from outside: "reject" (550 5.6.0), because messages are smuggled
    with it, or "normalize" to CRLF. Messages of trusted clients are always normalized."""

    nul: Literal["pass", "reject"] = "pass"
    """What to do with NUL in a message: "pass", because RFC 5322 section 4 knows it from old mail, or "reject"
    (550 5.6.0). A line that becomes a single dot for a host that drops NUL is always refused."""

    max_message_size: Annotated[Size, Field(ge=1)] = 50 * 10**6
    """The size of the largest message that is accepted. A larger one gets 552 5.3.4. Attachments grow by a third on the
    way: one of 20 MB makes a message of 27 MB."""

    max_header_size: Size = 256 * 2**10
    """How much of a message may be header. The longest chains of trace fields are far shorter. A larger header gets
    552 5.3.4."""

    max_hops: Annotated[int, Field(ge=1)] = 50
    """How many Received fields a message may have. A message with more is in a loop and gets 554 5.4.6."""

    hide_clients: bool = False
    """Whether our Received field leaves out the address and the names of clients that have logged in, so that
    recipients do not learn from where a user writes. It names this host in their place. The log has them."""


_SOME = [{"messages": 60, "recipients": 200, "octets": "100MB"}]


class RatesSection(Section):
    """How much mail is taken within a minute. Past it a recipient gets 450 4.7.1 and the client comes again, so that
    honest mail is late and not lost. What a minute allows may come at once; then comes as much as the time brings. What
    one message takes more than there is, is paid back by the time after it, a minute at most. Only what is accepted
    counts. All rates are counted over the processes of a host, and begin anew at a reload. Without a key there is no
    such limit."""

    client: Limits | None = Field(None, examples=_SOME)
    """From one client: an address, a /64 of IPv6 (the networks around it count as `limits.connections_per_client`
    says), or a user who has logged in. Trusted clients are not counted. Set it well below the other three, or a single
    client can use them up. Default: no limit."""

    sender_domain: Limits | None = Field(None, examples=_SOME)
    """From one domain in MAIL FROM, of strangers; a subdomain is another one. Only mail that passes SPF counts for its
    domain as a whole. Other mail counts for the domain and its client together, so that nobody uses up the rate of
    another. Default: no limit."""

    alias: Limits | None = Field(None, examples=_SOME)
    """To one alias, with all its details. A catch-all is one alias for each address that it leads to. Recipients are
    the addresses that the alias leads to. Other recipients of the same message are not affected. Default: no limit."""

    destination: Limits | None = Field(None, examples=_SOME)
    """To one domain, after aliases, from whomever it comes. Mail that returns to SRS and reply addresses does not
    count. How fast mail leaves is set by `rate` in `[[delivery.destinations]]`. Default: no limit."""


class LimitsSection(Section):
    """How much clients can use of the relay."""

    connections: Annotated[int, Field(ge=1)] = 1000
    """Connections of all clients together. The last tenth is kept for trusted clients."""

    connections_per_client: Annotated[int, Field(ge=1)] = 50
    """Connections from one address, or from one /64 of IPv6. Trusted clients are not counted. IPv6 clients that had no
    mail accepted within a day also count for the networks around them: a /56 may have 4 times this number, a /48 16
    times and a /32 64 times, but none of them more than half of `limits.connections`. The rates of what clients may try
    (`srs.forged_rate` and the like) are counted in the same way."""

    recipients: Annotated[int, Field(ge=100)] = 1000
    """Recipients in one transaction, at least 100 (RFC 5321 section 4.5.3.1.8)."""

    errors: Annotated[int, Field(ge=1)] = 20
    """Refused commands until the session ends with 421, unless a message was accepted in between. A recipient that is
    to come in another transaction, or later because of a rate in `[limits.rates]`, is none of them, up to a thousand.
    Trusted clients have no such limit."""

    command_timeout: Timeout = 300.0
    """How long the relay waits for the next command (RFC 5321 section 4.5.3.2.7)."""

    data_timeout: Timeout = 300.0
    """How long the relay waits for the next block of DATA or of a chunk (RFC 5321 section 4.5.3.2.7). A whole message
    may take twice that time, and a second more for each 1000 octets of it."""

    message_memory: Size = 512 * 10**6
    """Octets of messages in memory, over all processes. When they are used up, clients get 452 4.3.1 and come again.
    Clients that are not trusted may use nine tenths of it together, and each of them a quarter. A message that is
    longer than 256 KiB waits for its end in a file without a name, in the folder of an SQLite queue (otherwise in
    TMPDIR, or /var/tmp), and is in memory only for the seconds in which it is examined and stored. These files use at
    most half of what is free there above `queue.min_free`. Where there is no room for them, the message stays in
    memory."""

    min_rate: Annotated[Size, Field(ge=1)] = 2**10
    """Octets a second that a client has to send of a message, over the last minute. This counts only while more than
    half of `limits.message_memory`, or half of the room on disk for messages, is used: then the slowest clients are
    disconnected with 421 4.4.2. Trusted clients never are."""

    rates: RatesSection = RatesSection()


class ClientsSection(Section):
    """Trusted clients: your own hosts, which may send to any recipient. And what all others, strangers, have to show
    before their mail is taken."""

    trusted: OwnNetworks = Field((), examples=[["192.0.2.10", "2001:db8:7::/48"]])
    """The addresses and networks of trusted clients: your own Postfix, your own networks. All other clients reach only
    aliases and domains of `[routes]`, and SRS addresses that return. SPF is not checked for trusted clients. Networks
    wider than /8 (IPv6: /16) are refused, so that the relay is never open to everyone by accident. Default: none."""

    authserv_ids: tuple[AuthservId, ...] = Field((), examples=[["mail.example.org"]])
    """The authserv-ids (RFC 8601) under which your own MTA, a trusted client, writes Authentication-Results into the
    mail that it hands over to us. The relay then takes these results for its own; without them nothing is known of how
    that mail came in. The MTA has to remove fields that arrive from outside under its name: see
    docs/how-it-works.md#what-a-trusted-mta-found. Default: none."""

    require_reverse: Literal["none", "name", "confirmed"] = "none"
    """Which reverse DNS the address of a stranger must have: "name", any PTR record; "confirmed", a name that leads
    back to the address (FCrDNS). Otherwise recipients get 550 5.7.25, and 450 4.7.25 while DNS does not answer. Honest
    hosts without it are rare, but there are some. Mail to postmaster is taken from everyone."""

    require_helo: Literal["none", "fqdn", "resolves"] = "none"
    """Which name a stranger must give in HELO or EHLO: "fqdn", a full domain name (otherwise 504 5.5.2); "resolves",
    one that has an address or MX record, too (otherwise 550 5.7.1, and 450 4.7.1 while DNS does not answer). The
    client's own address in brackets is as good (RFC 5321 section 4.1.3). RFC 5321 section 4.1.4 forbids to compare the
    name with the client's address, so nothing here does. Mail to postmaster is taken from everyone."""

    greeting_delay: Annotated[Duration, Field(ge=0, le=30)] = 0.0
    """How long strangers wait for our greeting. One who speaks first gets 554 5.5.1 and is disconnected: mail servers
    wait, as RFC 5321 section 3.1 wants, many spam programs do not. Honest mail is late by that time, and more
    connections are open at once (`limits.connections`). At most 30 seconds; 6 are usual. There is no delay where TLS
    comes first (`tls = "implicit"`) or a login is required (`auth = "required"`)."""

    dnsbl: tuple[DnsblSection, ...] = ()

    dnswl: tuple[DnswlSection, ...] = ()

    dnsbl_reject: Annotated[int, Field(ge=1)] = 1
    """The score from which on a client is refused, with 550 5.7.1 and the text of the list. The score is the sum of the
    weights of all `[[clients.dnsbl]]` that list it, less those of `[[clients.dnswl]]`. Mail of a client with a lower
    score above 0 is taken and counts as doubtful."""

    @property
    def dns_lists(self) -> tuple[str, ...]:
        """The zones of all DNS lists."""
        return (*(each.zone for each in self.dnsbl), *(each.zone for each in self.dnswl))

    access: TableSources = Field((), examples=["clients.access"])
    """The file of what is said of clients, trusted ones and users included, in the format of Postfix's access(5):

        192.0.2.0/24           REJECT
        2001:db8:7::/48        DEFER come again tomorrow
        mail.partner.example   OK
        /^pool-[0-9-]+[.]/     REJECT send through your provider

    Before the action stands an address, a network, the name of a client (confirmed by its own address records; a domain
    stands for all names below it, too), or a regular expression. The actions are OK (the remaining access tables, the
    DNS lists and the filter are not asked; it gives no right to relay), REJECT (550 5.7.1), DEFER (450 4.7.1), HOLD,
    DISCARD and DUNNO: see docs/abuse.md#access-tables. The file is read again when it changes. A line that is wrong is
    named in the log, and the mail that it may be about gets 451 4.3.5 until it is mended. A regexp table, a database,
    or an array of several tables may stand here as in `routes.aliases`: see docs/tables.md. Default: none."""


class SendersSection(Section):
    """Senders that are yours."""

    local_domains: tuple[DomainName, ...] = Field((), examples=[["fwd.example"]])
    """The domains that we are authorised to send for: our hosts are in their SPF records. Their senders leave as they
    are, all others get an SRS address. Mail from outside that claims one of these domains has to pass SPF.
    Default: none."""

    access: TableSources = Field((), examples=["senders.access"])
    """The file of what is said of senders (MAIL FROM), in the format of `clients.access`. Before the action stands an
    address, a domain, which stands for those below it, too, `.domain` for those below it alone, `user@`, `<>` for the
    null sender, or a regular expression. OK counts only where SPF passes, or at the end of DATA DMARC for the sender's
    domain, or the sender is a user's own. Default: none."""
