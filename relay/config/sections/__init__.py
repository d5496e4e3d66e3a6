"""The tables of the configuration: each key with its type, its bounds, its default and its description.

Everything that users read about a key is generated from here by `make reference`: config/relay.toml,
docs/configuration.md and the manual page relay.toml(5). The docstring of a class describes its table, the docstring
below a key describes the key. It may end with "Default: …", which says what holds where the default is no value.
`examples` are shown in config/relay.toml in place of the default.
"""

from relay.config.sections.authentication import ArcSection, DmarcSection, SpfSection
from relay.config.sections.base import OwnNetworks, Section
from relay.config.sections.delivery import (
    BouncesSection,
    BouncesTo,
    DeliverySection,
    DestinationSection,
    Families,
    SmarthostSection,
    TlsLevel,
)
from relay.config.sections.dns_lists import DnsblSection, DnswlSection
from relay.config.sections.filter import FilterSection
from relay.config.sections.incoming import (
    AuthSection,
    CertificateSection,
    ClientsSection,
    LimitsSection,
    ListenSection,
    RatesSection,
    ReceiveSection,
    SendersSection,
    TlsSection,
)
from relay.config.sections.operation import DnsSection, HttpSection, LogSection, QueueSection
from relay.config.sections.routes import DomainRouteSection, RoutesSection, SrsMode
from relay.config.sections.shaping import ShapingSection
from relay.config.sections.signing import DkimSection, SigningSection
from relay.config.sections.srs import SrsSection
from relay.config.sections.tables import TablesSection
from relay.config.values import Unforwardable

__all__ = [
    "ArcSection",
    "AuthSection",
    "BouncesSection",
    "BouncesTo",
    "CertificateSection",
    "ClientsSection",
    "DeliverySection",
    "DestinationSection",
    "DkimSection",
    "DmarcSection",
    "DnsSection",
    "DnsblSection",
    "DnswlSection",
    "DomainRouteSection",
    "Families",
    "FilterSection",
    "HttpSection",
    "LimitsSection",
    "ListenSection",
    "LogSection",
    "OwnNetworks",
    "QueueSection",
    "RatesSection",
    "ReceiveSection",
    "RoutesSection",
    "Section",
    "SendersSection",
    "ShapingSection",
    "SigningSection",
    "SmarthostSection",
    "SpfSection",
    "SrsMode",
    "SrsSection",
    "TablesSection",
    "TlsLevel",
    "TlsSection",
    "Unforwardable",
]
