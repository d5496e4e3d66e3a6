"""`import opendmarc`: opendmarc.conf."""

from __future__ import annotations

import re
from pathlib import Path

from relay.config.opendkim_syntax import ConfSetting
from relay.config.values import authserv_id, domain_name
from relay.importer import milter_conf
from relay.importer.asked import ask_for_host, ask_for_srs, tell_routes
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.hosts import read_hosts
from relay.importer.milter_conf import OFF, Meaning, is_on
from relay.importer.source_file import read_text

_DMARC = ("dmarc",)
_SHORTEST_PREFIX = {4: 8, 6: 16}  # of `dmarc.skip`
_RUNS = Meaning("the relay runs under its service (docs/operating.md).")
_SYSLOG = Meaning("the log goes to stdout, so to the journal; each message is logged with its results.")
_FAILURE_REPORTS = "no failure reports are sent; they would show mail of others to third parties."

_MEANINGS = {
    "HistoryFile": Meaning("no aggregate reports are sent: domains no longer hear from this host.", matters=True),
    "FailureReports": Meaning(_FAILURE_REPORTS, True, OFF),
    "FailureReportsBcc": Meaning(_FAILURE_REPORTS),
    "FailureReportsOnNone": Meaning(_FAILURE_REPORTS, False, OFF),
    "FailureReportsSentBy": Meaning(_FAILURE_REPORTS),
    "ReportCommand": Meaning(_FAILURE_REPORTS),
    "CopyFailuresTo": Meaning("nobody gets a copy of mail that fails.", matters=True),
    "IgnoreMailFrom": Meaning(
        "there is no list of author domains without DMARC: anybody may write such a From. Name the hosts that send that"
        " mail in dmarc.skip.",
        matters=True,
    ),
    "IgnoreMailTo": Meaning("no aggregate reports are sent, so no address has to be left out of them."),
    "IgnoreAuthenticatedClients": Meaning(
        "mail of users who have logged in, and of clients.trusted, is never checked.",
    ),
    "RecordAllMessages": Meaning("no aggregate reports are sent.", False, OFF),
    "SPFIgnoreResults": Meaning("SPF is always checked here, for the true client.", False, OFF),
    "SPFSelfValidate": Meaning("SPF is always checked here, for the true client.", False, OFF),
    "PublicSuffixList": Meaning("the DNS tree walk of RFC 9989 takes the place of the list."),
    "RejectMultiValueFrom": Meaning("every author in From has to pass, so mail with several can fail.", False, OFF),
    "RejectString": Meaning("the refusal has a text of its own, which names the domain and its policy."),
    "RequiredHeaders": Meaning("a message without a readable From is judged by its header as it is.", True, OFF),
    "DomainWhitelistSize": Meaning("the list may have any length."),
    "AuthservIDWithJobID": Meaning("the authserv-id stands alone.", False, OFF),
    "SoftwareHeader": Meaning("no field names the program.", False, OFF),
    "ChangeRootDirectory": _RUNS,
    "AutoRestart": _RUNS,
    "AutoRestartCount": _RUNS,
    "AutoRestartRate": _RUNS,
    "Background": _RUNS,
    "EnableCoredumps": Meaning("no process writes a core dump.", False, OFF),
    "MilterDebug": _RUNS,
    "PidFile": _RUNS,
    "Socket": Meaning("the relay is no milter: remove it from smtpd_milters."),
    "Syslog": _SYSLOG,
    "SyslogFacility": _SYSLOG,
    "SyslogName": _SYSLOG,
    "TemporaryDirectory": _RUNS,
    "UMask": _RUNS,
    "UserID": Meaning("the relay runs as the user that its service names."),
}
_MAPPED = (
    *("AuthservID", "BaseDirectory", "DNSTimeout", "DomainWhitelist", "DomainWhitelistFile", "HoldQuarantinedMessages"),
    *("IgnoreHosts", "Include", "RejectFailures", "TrustedAuthservIDs"),
)


def read(path: Path) -> Draft:
    """The configuration in opendmarc.conf, or in the folder that has it.

    Raises:
        ImportFailed: it is none of OpenDMARC, or cannot be read.
    """
    if path.is_dir():
        conf = next(
            (file for file in (path / "opendmarc.conf", path.parent / "opendmarc.conf") if file.is_file()), None
        )
        if conf is None:
            raise ImportFailed(f"{path}: there is no opendmarc.conf in this folder")
        path = conf
    settings = milter_conf.read(path)
    known = (*_MEANINGS, *_MAPPED)
    milter_conf.check(path, settings, known, "OpenDMARC")
    draft = Draft("OpenDMARC", str(path))
    base = Path(settings["basedirectory"].value) if "basedirectory" in settings else path.parent
    milter_conf.set_authserv_id(draft, settings)
    milter_conf.set_dns_timeout(draft, settings)
    _set_trusted_ids(draft, settings)
    _set_policy(draft, settings)
    _set_ignored_hosts(draft, settings, base)
    _set_sealers(draft, settings, base)
    milter_conf.tell_unmapped(draft, settings, _MEANINGS)
    milter_conf.tell_unknown(draft, settings, known)
    ask_for_host(draft)
    ask_for_srs(draft)
    tell_routes(draft)
    return draft


def _set_trusted_ids(draft: Draft, settings: dict[str, ConfSetting]) -> None:
    """TrustedAuthservIDs: other milters of the same host, mostly. What they checked is checked here anew."""
    setting = settings.get("trustedauthservids")
    if setting is None:
        return
    origin, own = Origin("TrustedAuthservIDs", setting.where), draft.value((), "authserv_id")
    others = list[str]()
    for text in filter(None, map(str.strip, setting.value.split(","))):
        try:
            name = authserv_id(text.strip('"'))
        except ValueError as error:
            draft.no_counterpart(origin, f"{error}.", matters=True)
            continue
        if text.upper() == "HOSTNAME" or name == own:
            meaning = (
                f"{text} is our own authserv-id: SPF and DKIM are checked here, so no other milter on this host has to"
                " be believed."
            )
            draft.no_counterpart(origin, meaning)
        else:
            others.append(name)
    comment = "Only mail of clients.trusted is believed under these names."
    draft.add(("clients",), "authserv_ids", others, origin, comment)


def _set_policy(draft: Draft, settings: dict[str, ConfSetting]) -> None:
    setting = settings.get("rejectfailures")
    if is_on(settings, "rejectfailures") and setting is not None:
        origin = Origin("RejectFailures", setting.where)
        draft.set(_DMARC, "reject", "reject", origin)
        draft.set(_DMARC, "temperror", "defer", origin)
    else:
        where = (
            Origin("RejectFailures", setting.where) if setting else Origin("OpenDMARC's default of RejectFailures", "")
        )
        comment = 'Nothing is refused for DMARC; "reject", the default of the relay, refuses what p=reject asks for.'
        draft.set(_DMARC, "reject", "tag", where, comment)
        draft.set(_DMARC, "temperror", "tag", where)
    held = settings.get("holdquarantinedmessages")
    if held is not None and is_on(settings, "holdquarantinedmessages"):
        origin = Origin("HoldQuarantinedMessages", held.where)
        draft.set(_DMARC, "quarantine", "tag", origin, "Nothing is held here.")
        meaning = 'mail that fails p=quarantine goes on with its results noted; dmarc.quarantine = "reject" refuses it.'
        draft.no_counterpart(origin, meaning, matters=True)
    else:
        draft.set(_DMARC, "quarantine", "tag", "OpenDMARC, which takes such mail")


def _set_ignored_hosts(draft: Draft, settings: dict[str, ConfSetting], base: Path) -> None:
    setting = settings.get("ignorehosts")
    if setting is None:
        return
    origin = Origin("IgnoreHosts", setting.where)
    entries = _entries(draft, base / setting.value, origin, "dmarc.skip")
    hosts = read_hosts(entry for entry in entries if not entry.startswith("!"))
    wide = [network for network in hosts.networks if network.prefixlen < _SHORTEST_PREFIX[network.version]]
    skipped = [str(network) for network in dict.fromkeys(hosts.networks) if network not in wide]
    comment = "Hosts of your own belong into clients.trusted instead: they may send to any recipient."
    draft.add(_DMARC, "skip", [*skipped, *hosts.names], f"{origin}, {base / setting.value}", comment)
    if wide:
        meaning = f"{', '.join(map(str, wide))} would turn DMARC off for everybody, so it is left out."
        draft.no_counterpart(origin, meaning, matters=True)
    if hosts.bad:
        draft.no_counterpart(origin, f"{', '.join(hosts.bad)}: neither an address nor a name.", matters=True)
    exceptions = [entry for entry in entries if entry.startswith("!")]
    if exceptions:
        meaning = f"{', '.join(exceptions)}: there are no exceptions; write narrower networks into dmarc.skip."
        draft.no_counterpart(origin, meaning, matters=True)


def _set_sealers(draft: Draft, settings: dict[str, ConfSetting], base: Path) -> None:
    """DomainWhitelist: the sealers whose ARC chains are believed."""
    for name in ("DomainWhitelist", "DomainWhitelistFile"):
        setting = settings.get(name.lower())
        if setting is None:
            continue
        origin = Origin(name, setting.where)
        text = (
            [setting.value]
            if name == "DomainWhitelist"
            else _entries(draft, base / setting.value, origin, "arc.trusted_sealers")
        )
        sealers = list[str]()
        for word in (word for line in text for word in re.split(r"[\s,]+", line) if word):
            try:
                sealers.append(domain_name(word))
            except ValueError as error:
                draft.no_counterpart(origin, f"{error}.", matters=True)
        draft.add(("arc",), "trusted_sealers", sealers, origin)


def _entries(draft: Draft, path: Path, origin: Origin, key: str) -> list[str]:
    """The lines of a list in a file."""
    try:
        text = read_text(path)
    except ImportFailed as error:
        draft.no_counterpart(origin, f"{error}. Write its entries into {key}.", matters=True)
        return []
    return [entry for line in text.split("\n") if (entry := line.partition("#")[0].strip())]
