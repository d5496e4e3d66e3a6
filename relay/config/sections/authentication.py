"""The tables about what SPF, DMARC and ARC lead to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from relay.config.sections.base import Section
from relay.config.values import Action, DomainName, File, HostPattern, Network, Sealing, Unforwardable
from relay.network import IPNetwork


class SpfSection(Section):
    """What an SPF result leads to: "reject" (550 5.7.23), "defer" (451 4.7.24), or "tag", which only notes it in
    Authentication-Results. For fail and softfail there is "reject-unless-dkim" as well: at the end of DATA it refuses
    mail without a valid DKIM signature of the author's domain or of the sender's domain, and so lets the mail of other
    forwarders through. Results that are not named here are tagged. SPF is not checked for trusted clients.
    """

    fail: Literal["reject-unless-dkim", "reject", "defer", "tag"] = "reject-unless-dkim"
    """What "fail" leads to: the sender's domain says that this client may not send for it."""

    softfail: Literal["reject-unless-dkim", "reject", "defer", "tag"] = "tag"
    """What "softfail" leads to: the sender's domain says that this client probably may not send for it."""

    permerror: Action = "tag"
    """What "permerror" leads to: the SPF record of the sender's domain is wrong."""

    temperror: Action = "defer"
    """What "temperror" leads to: DNS does not answer for now. It is never refused for good."""

    skip: tuple[Network, ...] = Field((), examples=[["198.51.100.7", "2001:db8:5::/48"]])
    """Hosts that forward to us, or are our backup MX. Their mail fails SPF by nature, so SPF is not checked for them.
    Default: none."""


class DmarcSection(Section):
    """What a DMARC failure (RFC 9989) leads to, and what is done with mail that fails DMARC once it is forwarded."""

    reject: Action = "reject"
    """What a failure under p=reject leads to: "reject" (550 5.7.26), "defer" (451 4.7.26), or "tag". A domain that
    publishes t=y is treated one step milder."""

    quarantine: Action = "tag"
    """What a failure under p=quarantine leads to: "reject" (550 5.7.26), "defer" (451 4.7.26), or "tag"."""

    temperror: Literal["defer", "tag"] = "defer"
    """What to do while DNS does not answer a question that may lead to a refusal under p=reject, or under a policy that
    is not known: the author's policy, the key of a signature of the author's organization, the name of a known host.
    "defer" (451 4.7.26) waits until DNS answers; "tag" takes the mail, forged or not. Mail that passes SPF or DKIM for
    exactly the author's domain is always taken."""

    unforwardable: Unforwardable = "rewrite-from"
    """What to do with mail that passes DMARC by SPF alone under p=quarantine or p=reject. It fails at the next hop,
    whoever forwards it. "rewrite-from" replaces From by an address of ours that leads replies to the author, "reject"
    refuses the mail in the session, "pass" sends it on as it is. From is never rewritten in any other mail."""

    skip: tuple[HostPattern, ...] = Field((), examples=[["198.51.100.7", "mx.lists.example", ".forwarder.example"]])
    """Hosts whose mail is taken although DMARC fails, or SPF under "reject-unless-dkim": mailing lists and forwarders
    that you know. They are named by address, network, or host name, which the address has to confirm;
    ".lists.example" means all names below it. Hosts of `spf.skip` are treated the same. Authentication-Results records
    it. Default: none."""

    @field_validator("skip")
    @classmethod
    def _refuse_everyone(cls, value: tuple[IPNetwork | str, ...]) -> tuple[IPNetwork | str, ...]:
        for host in value:
            if not isinstance(host, str) and host.prefixlen < (8 if host.version == 4 else 16):
                raise ValueError(f"{host} would turn DMARC off; name the hosts that you know")
        return value


class ArcSection(Section):
    """ARC seals (RFC 8617): whether we seal, with which key, and whose seals are believed."""

    seal: Sealing = True
    """Whether we seal what we forward: a signed record of what we saw of the message. Receivers may use it or not;
    nothing in the relay depends on it. Google asks those who forward mail regularly for ARC headers. A seal costs two
    RSA signatures a message. "useful" makes it only where it tells the next hop what that cannot see by itself: that
    SPF or DMARC passed here, if no RSA signature that passed proves the author; that DMARC failed, and the message was
    taken all the same; a signature that we broke, by a new From or by the removal of a signed field; a chain that came
    along."""

    comments: bool = False
    """Whether the results in a seal have the comments for people that Authentication-Results has. Some receivers fail
    chains whose results have comments."""

    domain: DomainName | None = Field(None, examples=["fwd.example"])
    """The domain of the key that seals. `arc.domain`, `arc.selector` and `arc.private_key` are set together or not at
    all. Default: seals are made with the active RSA key that signs mail without a key of its own."""

    selector: DomainName | None = Field(None, examples=["arc1"])
    """The selector of that key. Default: see `arc.domain`."""

    private_key: File | None = Field(None, examples=["dkim/arc1.pem"])
    """The file of that key, RSA in PEM. Default: see `arc.domain`."""

    trusted_sealers: tuple[DomainName, ...] = Field((), examples=[["lists.example"]])
    """The domains of sealers that are believed: where a whole ARC chain ends in seals of these domains, and one of them
    saw DMARC pass, a failure here is overridden. Default: none."""

    @model_validator(mode="after")
    def _whole_key(self) -> ArcSection:
        if len({self.domain is None, self.selector is None, self.private_key is None}) > 1:
            raise ValueError("domain, selector and private_key belong together")
        return self
