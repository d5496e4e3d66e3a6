"""What the settings of opendkim.conf mean here that have no key of their own."""

from __future__ import annotations

from relay.importer.milter_conf import OFF, Meaning

_SYSLOG = Meaning("the log goes to stdout, so to the journal; each message is logged with its signatures.")
_RUNS = Meaning("the relay runs under its service (docs/operating.md).")
_DATABASE = Meaning("only text files are read, no databases.", matters=True)
_LUA = Meaning("no scripts are run: what it decided has to be decided elsewhere.", matters=True)
_REPORTS = Meaning("no reports on single signatures are asked for or sent.")
_ACCEPTED = ("accept", "a")
_DEFERRED = ("tempfail", "t")

MEANINGS = {
    # Signing
    "Canonicalization": Meaning(
        "signatures are relaxed/relaxed: they survive what hosts on the way do to white space.",
        usual=("relaxed/relaxed", "relaxed"),
    ),
    "OversignHeaders": Meaning(
        "From and the other fields that mail has once are always closed against additions; the list is fixed."
    ),
    "SignHeaders": Meaning("the list of signed fields is fixed (docs/how-it-works.md)."),
    "OmitHeaders": Meaning("the list of signed fields is fixed (docs/how-it-works.md)."),
    "AlwaysSignHeaders": Meaning("the list of signed fields is fixed (docs/how-it-works.md)."),
    "SignatureAlgorithm": Meaning("the key says the algorithm: rsa-sha256 or ed25519-sha256.", usual=("rsa-sha256",)),
    "SignatureTTL": Meaning("signatures do not expire: mail may wait for days at a later host."),
    "BodyLengthDB": Meaning("signatures cover the whole body; `l=` lets anybody append text.", matters=True),
    "MaximumSignedBytes": Meaning("signatures cover the whole body; `l=` lets anybody append text.", matters=True),
    "Diagnostics": Meaning("signatures have no copy of the header (`z=`).", usual=OFF),
    "DontSignMailTo": Meaning("all mail is signed, also mail to these recipients.", matters=True),
    "ExemptDomains": Meaning("mail of every domain is verified and signed.", matters=True),
    "PeerList": Meaning(
        "there is no list of clients whose mail is left alone. Hosts of your own belong into clients.trusted: their"
        " mail is not checked, and may go to any recipient.",
        matters=True,
    ),
    "SenderHeaders": Meaning("the From field alone chooses the key.", matters=True, usual=("from",)),
    "SenderMacro": Meaning("the From field alone chooses the key.", matters=True),
    "SelectCanonicalizationHeader": Meaning("no header field chooses how mail is signed."),
    "RemoveOldSignatures": Meaning("signatures of others stay: they may still be valid.", usual=OFF),
    "ReplaceRules": Meaning("mail is signed as it leaves, so nothing has to be foreseen.", matters=True),
    "ReplaceHeaders": Meaning("mail is signed as it leaves, so nothing has to be foreseen."),
    "RequireSafeKeys": Meaning("keys that others can read are named in the log (`secret_readable_by_others`)."),
    "MTA": Meaning("what is signed does not depend on the port that mail came in by.", matters=True),
    "MacroList": Meaning(
        "no macro of a mail server chooses what is signed: mail of users who have logged in, and of clients.trusted,"
        " always is.",
        matters=True,
    ),
    "POPDBFile": Meaning("there is no POP before SMTP.", matters=True),
    "ResignMailTo": Meaning("forwarded mail is always signed by the forwarder as well."),
    "ResignAll": Meaning("forwarded mail is always signed by the forwarder as well.", usual=OFF),
    "ExternalIgnoreList": Meaning("it only kept the log quiet; nobody is trusted by it, here neither."),
    # Verifying
    "On-BadSignature": Meaning(
        "a bad signature counts as none (RFC 6376 section 6.1); what DMARC says decides.", True, _ACCEPTED
    ),
    "On-Default": Meaning("no result of DKIM alone refuses mail; what DMARC says decides.", True, _ACCEPTED),
    "On-DNSError": Meaning(
        "dmarc.temperror says what waits for DNS: by default what may have to be refused.", False, _DEFERRED
    ),
    "On-InternalError": Meaning(
        "mail is stored before it is acknowledged; an error of ours never loses it.", False, _DEFERRED
    ),
    "On-KeyNotFound": Meaning("a signature without its key counts as none; what DMARC says decides.", True, _ACCEPTED),
    "On-NoSignature": Meaning("mail without a signature is taken; what DMARC says decides.", True, _ACCEPTED),
    "On-Security": Meaning("broken header fields are refused or noted by the relay's own rules.", False, _DEFERRED),
    "On-SignatureError": Meaning(
        "a key that cannot be used stops the relay at its start, not the mail.", False, ("reject", "r")
    ),
    "BadSignatureAction": Meaning("a bad signature counts as none; what DMARC says decides.", True, _ACCEPTED),
    "MinimumKeyBits": Meaning(
        "keys of 1024 bits and more count (RFC 8301 section 3.2), shorter ones never.", usual=("1024",)
    ),
    "Minimum": Meaning("a signature that covers a part of the body alone is not treated otherwise.", matters=True),
    "MustBeSigned": Meaning("a signature counts if it covers From (RFC 6376 section 5.4).", matters=True),
    "MaximumSignaturesToVerify": Meaning("the topmost 10 signatures are verified."),
    "TrustSignaturesFrom": Meaning("signatures of the author's and the sender's domain count, others are noted.", True),
    "BogusKey": Meaning("a key with the wrong content is no key."),
    "BogusPolicy": Meaning("there is no ADSP (RFC 5617 is historic)."),
    "UnprotectedKey": Meaning("whether DNSSEC protects a key makes no difference.", usual=("none",)),
    "UnprotectedPolicy": Meaning("whether DNSSEC protects a policy makes no difference.", usual=("none", "apply")),
    "WeakSyntaxChecks": Meaning("signatures follow RFC 6376.", usual=OFF),
    "ClockDrift": Meaning("a signature may be a few minutes from the future; the limit is fixed."),
    "DomainKeysCompat": Meaning("keys of DomainKeys are no keys of DKIM.", usual=OFF),
    "AllowSHA1Only": Meaning("rsa-sha1 does not count (RFC 8301).", usual=OFF),
    "FixCRLF": Meaning(
        "bare CR and LF from outside are refused, those of trusted clients mended (receive.bare_newline).", usual=OFF
    ),
    "RequiredHeaders": Meaning(
        "mail without From, or with several, is noted and judged by DMARC, not refused for it.", True, OFF
    ),
    "StrictHeaders": Meaning(
        "mail without From, or with several, is noted and judged by DMARC, not refused for it.", True, OFF
    ),
    "IgnoreMalformedMail": Meaning("malformed mail is taken or refused by the relay's own rules.", usual=OFF),
    "Quarantine": Meaning("nothing is held for looking at; see dmarc.quarantine.", True, OFF),
    "CaptureUnknownErrors": Meaning("nothing is held for looking at.", usual=OFF),
    "RedirectFailuresTo": Meaning("mail is never sent elsewhere because of a bad signature.", matters=True),
    # Results
    "AlwaysAddARHeader": Meaning("Authentication-Results is always written.", usual=("true", "yes", "1", "y", "t")),
    "AuthservIDWithJobID": Meaning("the authserv-id stands alone.", usual=OFF),
    "RemoveARAll": Meaning("fields under our own authserv-id are removed, all others stay.", usual=OFF),
    "RemoveARFrom": Meaning("fields under our own authserv-id are removed, all others stay.", matters=True),
    "KeepAuthResults": Meaning("fields from outside under our own authserv-id are removed.", usual=OFF),
    "NoHeaderB": Meaning("results name the signature by header.b.", usual=OFF),
    "SoftwareHeader": Meaning("no field names the program.", usual=OFF),
    "ADSPAction": Meaning("there is no ADSP (RFC 5617 is historic)."),
    "ADSPNoSuchDomain": Meaning("there is no ADSP (RFC 5617 is historic)."),
    **{
        f"VBR-{name}": Meaning("there is no VBR (RFC 5518).")
        for name in ("Certifiers", "PurgeFields", "TrustedCertifiers", "TrustedCertifiersOnly", "Type")
    },
    "LocalADSP": Meaning("there is no ADSP (RFC 5617 is historic)."),
    # Reports and statistics
    "ReportAddress": _REPORTS,
    "ReportBccAddress": _REPORTS,
    "RequestReports": _REPORTS._replace(usual=OFF),
    "SendReports": _REPORTS._replace(usual=OFF),
    "SendADSPReports": _REPORTS._replace(usual=OFF),
    "MTACommand": _REPORTS,
    "SMTPURI": _REPORTS,
    "Statistics": Meaning("/metrics counts results (section [http])."),
    "StatisticsName": Meaning("/metrics counts results (section [http])."),
    "StatisticsPrefix": Meaning("/metrics counts results (section [http])."),
    "AnonymousStatistics": Meaning("/metrics counts results (section [http]).", usual=OFF),
    "StatisticsPolicyScript": _LUA,
    "FinalPolicyScript": _LUA,
    "ScreenPolicyScript": _LUA,
    "SetupPolicyScript": _LUA,
    # DNS
    "TrustAnchorFile": Meaning("the resolver validates DNSSEC, not the relay."),
    "ResolverConfiguration": Meaning("the resolver has a configuration of its own."),
    "ResolverTracing": Meaning("the resolver logs for itself.", usual=OFF),
    "DNSConnect": Meaning("questions go over UDP first.", usual=OFF),
    "QueryCache": Meaning("answers are kept (dns.cache_entries).", usual=OFF),
    # The process
    "Socket": Meaning("the relay is no milter: remove it from smtpd_milters and non_smtpd_milters."),
    "PidFile": _RUNS,
    "UserID": Meaning("the relay runs as the user that its service names; it has to be able to read the keys."),
    "UMask": _RUNS,
    "Background": _RUNS,
    "AutoRestart": _RUNS,
    "AutoRestartCount": _RUNS,
    "AutoRestartRate": _RUNS,
    "ChangeRootDirectory": Meaning(
        "paths start at the real root here: look whether KeyTable and the others do.", matters=True
    ),
    "TemporaryDirectory": _RUNS,
    "KeepTemporaryFiles": Meaning("no temporary files are kept.", usual=OFF),
    "DiagnosticDirectory": Meaning("no diagnostic files are written."),
    "EnableCoredumps": Meaning("no process writes a core dump.", usual=OFF),
    "MilterDebug": _RUNS,
    "DisableCryptoInit": _RUNS,
    "SoftStart": _DATABASE._replace(matters=False),
    "StrictTestMode": Meaning("`srs-relay explain` shows what would become of a message."),
    "TestPublicKeys": Meaning("`srs-relay keys` shows what DNS has of each key."),
    "TestDNSData": Meaning("`srs-relay keys` shows what DNS has of each key."),
    "IdentityHeader": Meaning("the From field alone chooses the key.", matters=True),
    "IdentityHeaderRemove": Meaning("header fields of others stay as they are.", usual=OFF),
    "Syslog": _SYSLOG,
    "SyslogFacility": _SYSLOG,
    "SyslogName": _SYSLOG,
    "SyslogSuccess": _SYSLOG,
    "LogResults": _SYSLOG,
    "LogWhy": Meaning("`srs-relay explain` shows for a message why it is signed or not."),
    **{
        f"LDAP{name}": _DATABASE
        for name in (
            *("AuthMechanism", "AuthName", "AuthRealm", "AuthUser", "BindPassword", "BindUser", "DisableCache"),
            *("KeepaliveIdle", "KeepaliveInterval", "KeepaliveProbes", "SoftStart", "Timeout", "UseTLS"),
        )
    },
}
