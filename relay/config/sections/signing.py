"""The tables about DKIM keys."""

from __future__ import annotations

from datetime import UTC, date, datetime

from pydantic import Field, model_validator

from relay.config.sections.base import Section
from relay.config.values import DomainName, DomainPattern, File, PointInTime


class DkimSection(Section):
    """A DKIM key: RSA (2048 bits) or Ed25519, in PEM. `srs-relay keys new` makes one, `srs-relay keys rotate` makes the
    next one. Where several keys are active for one From domain, each of them signs.
    """

    domain: DomainName = Field(examples=["fwd.example"])
    """The domain that signs (`d=`)."""

    selector: DomainName = Field(examples=["relay1"])
    """The selector of the key (`s=`): its DNS record is at SELECTOR._domainkey.DOMAIN."""

    private_key: File = Field(examples=["dkim/relay1.pem"])
    """The file of the key."""

    sign: tuple[DomainPattern, ...] = Field((), examples=[["fwd.example", "*.fwd.example"]])
    """The From domains whose mail this key signs: a domain, "*.example.org" for all domains below it, or "*" for every
    domain. Exact names go first, then the longer wildcard. All other mail, and mail of domains whose keys are not
    active, is signed by the active keys of `srs.domain`, or else of the first entry's domain. Default: the key's own
    domain."""

    active_from: PointInTime | None = Field(None, examples=[date(2026, 7, 1)])
    """The first moment at which the key signs: a date, or a date with a time, in UTC. Default: it signs from the
    beginning."""

    active_until: PointInTime | None = Field(None, examples=[datetime(2027, 7, 1, 12, tzinfo=UTC)])
    """The first moment at which the key does not sign any more. Default: it signs for ever."""

    @model_validator(mode="after")
    def _ends_after_its_beginning(self) -> DkimSection:
        if self.active_from and self.active_until and self.active_from >= self.active_until:
            raise ValueError("active_until has to be later than active_from")
        return self


class SigningSection(Section):
    """DKIM keys of OpenDKIM, for a host that moves over from it."""

    opendkim: File | None = Field(None, examples=["/etc/opendkim"])
    """The folder of KeyTable and SigningTable, with the opendkim.conf in it or beside it, or the file
    /etc/opendkim.conf itself, which may name one key by Domain, Selector and KeyFile. They are read as OpenDKIM reads
    them. Entries of `[[dkim]]` go first. The InternalHosts of OpenDKIM (without an opendkim.conf the file TrustedHosts)
    are then trusted clients as well, as far as they are addresses. Default: none."""
