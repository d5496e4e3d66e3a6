"""`import policyd-spf`: policyd-spf.conf of postfix-policyd-spf-python (spf-engine)."""

from __future__ import annotations

import re
from pathlib import Path

from relay.config.values import authserv_id, domain_name
from relay.importer.asked import ask_for_host, ask_for_srs, tell_routes
from relay.importer.draft import Draft, ImportFailed, Origin
from relay.importer.hosts import read_hosts
from relay.importer.milter_conf import Meaning
from relay.importer.source_file import read_text

_SPF = ("spf",)
_FALSE = ("false", "no")
_REFUSED = {  # the results that are refused, by the value of Mail_From_reject in lower case
    "spf_not_pass": ("fail", "softfail", "permerror"),
    "softfail": ("fail", "softfail"),
    "fail": ("fail",),
    "false": (),
    "no_check": (),
    "null": (),
}
_HELO = (
    "the host name of a client is checked for bounces (`MAIL FROM:<>`) alone, as RFC 7208 section 2.4 has it; what"
    " the results lead to is the same."
)
_MEANINGS = {
    "HELO_reject": Meaning(_HELO, True, ("null", "false", "no_check")),
    "HELO_pass_restriction": Meaning("no result leads to another check.", matters=True),
    "Mail_From_pass_restriction": Meaning("no result leads to another check.", matters=True),
    "Reject_Not_Pass_Domains": Meaning(
        "no domain is treated otherwise than its own SPF record asks for. DMARC protects most of these domains.",
        matters=True,
    ),
    "Prospective": Meaning("`srs-relay explain --next-hop-view` shows what the next hop will find.", matters=True),
    "Per_User": Meaning("all recipients have the same rules.", matters=True),
    "Header_Type": Meaning("results are always written, as Authentication-Results.", False, ("spf", "ar")),
    "Hide_Receiver": Meaning("results do not name recipients."),
    "Reason_Message": Meaning("the refusal has a text of its own, which names the domain."),
    "SPF_Enhanced_Status_Codes": Meaning("refusals have the codes of RFC 7372.", False, ("yes", "true")),
    "Lookup_Time": Meaning("all DNS questions of a message share one budget of time."),
    "Whitelist_Lookup_Time": Meaning("all DNS questions of a message share one budget of time."),
    "Void_Limit": Meaning("two questions without an answer are allowed (RFC 7208 section 4.6.4).", False, ("2",)),
    "Mock": Meaning("there is one place where results are written.", False, _FALSE),
    "QueueID": Meaning("every line of the log has the queue id."),
    "debugLevel": Meaning("the log's level is log.level."),
    "Socket": Meaning("the relay is no milter."),
    "PidFile": Meaning("the relay runs under its service (docs/operating.md)."),
    "UserID": Meaning("the relay runs as the user that its service names."),
    "UMask": Meaning("the relay runs under its service (docs/operating.md)."),
    "MacroList": Meaning("SPF is not checked for users who have logged in, nor for clients.trusted."),
    "MacroListVerify": Meaning("SPF is not checked for users who have logged in, nor for clients.trusted."),
    "IntHosts": Meaning("hosts of your own belong into clients.trusted."),
    "InternalHosts": Meaning("hosts of your own belong into clients.trusted.", matters=True),
}
_MAPPED = (
    *("Authserv_Id", "Domain_Whitelist", "Domain_Whitelist_PTR", "HELO_Whitelist", "Mail_From_reject", "No_Mail"),
    *("PermError_reject", "TempError_Defer", "TestOnly", "Whitelist", "defaultSeedOnly", "skip_addresses"),
)
_KNOWN = (*_MEANINGS, *_MAPPED)

Settings = dict[str, tuple[str, Origin]]


def read(path: Path) -> Draft:
    """The configuration in policyd-spf.conf, or in the folder that has it.

    Raises:
        ImportFailed: it is none of policyd-spf, or cannot be read.
    """
    if path.is_dir():
        path = path / "policyd-spf.conf"
    settings = _settings(path)
    draft = Draft("policyd-spf", str(path))
    _set_authserv_id(draft, settings)
    names = _named_hosts(draft, settings)
    _set_results(draft, settings, has_names=bool(names))
    _set_skipped(draft, settings)
    for name, meaning in _MEANINGS.items():
        if name in settings and settings[name][0].lower() not in meaning.usual:
            draft.no_counterpart(settings[name][1], meaning.text, matters=meaning.matters)
    for name, (_, origin) in settings.items():
        if name not in _KNOWN:
            draft.no_counterpart(origin, "policyd-spf does not know it.", matters=True)
    ask_for_host(draft)
    ask_for_srs(draft)
    tell_routes(draft)
    return draft


def _settings(path: Path) -> Settings:
    settings: Settings = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        name, equals, value = (part.strip() for part in line.partition("#")[0].partition("="))
        if equals:
            settings[name] = value, Origin(name, f"{path}:{number}")
    unknown = [name for name in settings if name not in _KNOWN]
    if not settings or 2 * len(unknown) >= len(settings):
        what = f"it does not know {', '.join(unknown[:3])}" if unknown else "there is no setting in it"
        raise ImportFailed(f"{path}: this is no configuration of policyd-spf: {what}")
    return settings


def _set_authserv_id(draft: Draft, settings: Settings) -> None:
    value, origin = settings.get("Authserv_Id", ("HOSTNAME", Origin("", "")))
    if value.upper() in ("HOSTNAME", "HEADER"):
        return
    try:
        draft.set((), "authserv_id", authserv_id(value), origin)
    except ValueError as error:
        draft.no_counterpart(origin, f"{error}; the host name is used.", matters=True)


def _set_results(draft: Draft, settings: Settings, *, has_names: bool) -> None:
    """What each result of SPF leads to."""
    test_only = settings.get("TestOnly") or settings.get("defaultSeedOnly")
    sender, sender_origin = settings.get(
        "Mail_From_reject", ("Fail", Origin("policyd-spf's default of Mail_From_reject", ""))
    )
    if test_only is not None and test_only[0] == "0":
        for key in ("fail", "softfail", "permerror", "temperror"):
            comment = "policyd-spf only tests; see what it would do, then remove these lines." if key == "fail" else ""
            draft.set(_SPF, key, "tag", test_only[1], comment)
        return
    refused = _REFUSED.get(sender.lower())
    if refused is None:
        draft.no_counterpart(
            sender_origin, f"{sender!r} is no value that policyd-spf knows; Fail is used.", matters=True
        )
        refused = _REFUSED["fail"]
    no_mail = settings.get("No_Mail")
    if no_mail is not None and no_mail[0].lower() not in _FALSE:
        meaning = (
            'domains that send no mail at all (`v=spf1 -all`) cannot be told from others here: spf.fail = "tag" refuses'
            " neither. DMARC protects many of them."
        )
        draft.no_counterpart(no_mail[1], meaning, matters=True)
        refused = ()
    for key in ("fail", "softfail"):
        draft.set(_SPF, key, _strictly(key in refused, has_names), sender_origin, _why(key in refused, has_names))
    _set_errors(
        draft, settings, checked=bool(_REFUSED.get(sender.lower(), refused)), refused=refused, origin=sender_origin
    )
    if sender.lower() == "spf_not_pass":
        draft.no_counterpart(
            sender_origin, "mail with the result neutral is taken, as RFC 7208 section 8.2 asks for.", matters=True
        )


def _strictly(refused: bool, has_names: bool) -> str:
    if not refused:
        return "tag"
    return "reject-unless-dkim" if has_names else "reject"


def _why(refused: bool, has_names: bool) -> str:
    if refused and has_names:
        return 'With "reject" the hosts of dmarc.skip below would be refused as well.'
    if refused:
        return '"reject-unless-dkim" would take the signed mail of other forwarders.'
    return ""


def _set_errors(draft: Draft, settings: Settings, *, checked: bool, refused: tuple[str, ...], origin: Origin) -> None:
    """What errors lead to. Where senders are not refused (Mail_From_reject = False), policyd-spf ignores them, too."""
    permanent = settings.get("PermError_reject")
    temporary = settings.get("TempError_Defer")
    if "permerror" in refused:
        draft.set(_SPF, "permerror", "reject", origin)
    elif permanent is not None:
        draft.set(_SPF, "permerror", "reject" if checked and _is_true(permanent[0]) else "tag", permanent[1])
    if temporary is not None:
        draft.set(_SPF, "temperror", "defer" if checked and _is_true(temporary[0]) else "tag", temporary[1])
    else:
        draft.set(_SPF, "temperror", "tag", "policyd-spf's default of TempError_Defer")


def _set_skipped(draft: Draft, settings: Settings) -> None:
    """Hosts whose SPF is not checked."""
    for name in ("skip_addresses", "Whitelist"):
        if name not in settings:
            continue
        value, origin = settings[name]
        hosts = read_hosts(re.split(r"[,\s]+", value))
        comment = "Hosts of your own belong into clients.trusted instead." if name == "skip_addresses" else ""
        draft.add(_SPF, "skip", map(str, dict.fromkeys(hosts.networks)), origin, comment)
        for entry in (*hosts.bad, *hosts.names):
            draft.no_counterpart(origin, f"{entry} is no address or network, so it is left out.", matters=True)


def _named_hosts(draft: Draft, settings: Settings) -> list[str]:
    """Hosts that are known by name: `dmarc.skip` takes names, `spf.skip` takes addresses alone."""
    found = list[str]()
    for name in ("HELO_Whitelist", "Domain_Whitelist_PTR"):
        if name not in settings:
            continue
        value, origin = settings[name]
        hosts = list[str]()
        for entry in filter(None, re.split(r"[,\s]+", value)):
            try:
                host = domain_name(entry.removeprefix("."))
            except ValueError as error:
                draft.no_counterpart(origin, f"{error}.", matters=True)
                continue
            hosts += [host] if name == "HELO_Whitelist" else [host, f".{host}"]
        comment = "The address has to confirm the name (PTR and back). DMARC is not asked for their mail either."
        draft.add(("dmarc",), "skip", hosts, origin, comment)
        found += hosts
    if "Domain_Whitelist" in settings:
        value, origin = settings["Domain_Whitelist"]
        if value and value.lower() != "none":
            meaning = (
                f"hosts cannot be known by the SPF record of {value}. Name the addresses of that record in spf.skip, or"
                " the host names in dmarc.skip."
            )
            draft.no_counterpart(origin, meaning, matters=True)
    return found


def _is_true(value: str) -> bool:
    return value.lower() == "true"
