"""What the checks look at."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.model import Config
from relay.dns import Resolver
from relay.process.files import Files
from relay.sending_addresses import SendingAddress


@dataclass(frozen=True, slots=True)
class Site:
    """A host as it is configured.

    Attributes:
        path: the configuration file; empty where the environment is the whole configuration.
        addresses: those that mail leaves from.
        now: seconds since 1970.
    """

    config: Config
    files: Files
    resolver: Resolver
    addresses: tuple[SendingAddress, ...]
    now: float
    path: str = ""

    @property
    def machine(self) -> str:
        """This host as the subject of a finding. With tables alone it may have no name in the configuration."""
        return self.config.hostname if self.config.takes_mail else "this host"

    @property
    def mail_host(self) -> str:
        """The name of the mail server, for records to publish; a placeholder with tables alone, where it is another
        one."""
        return self.config.hostname if self.config.takes_mail else "NAME-OF-THE-MAIL-SERVER"
