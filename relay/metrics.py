"""The metrics of the relay: their names, their labels, and the text that Prometheus reads."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from relay.mail.reply import Reply
from relay.shared_metrics import Counter, CounterByName, Gauge, Histogram, HostGauge, SharedMetric

# Seconds from acceptance to delivery: the left ones for mail without delay, the right ones for retries (5 min … 5 d).
TRANSIT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400, 432000)

SPF_RESULTS = ("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror")  # RFC 7208 section 2.6
DKIM_RESULTS = ("pass", "fail", "policy", "neutral", "temperror", "permerror")  # RFC 8601 section 2.7.1
DMARC_RESULTS = ("none", "pass", "fail", "temperror", "permerror")
ARC_RESULTS = ("none", "pass", "fail")  # RFC 8617 section 10.1
WAY_HOME = ("ok", "unproven", "broken")
OFFERS = ("delivered", "refused", "queued", "withdrawn")
TREATMENTS = ("rewrite-from", "reject", "pass")
TABLE_LOOKUPS = tuple(
    (name, result)
    for name in ("forward", "reverse")
    for result in ("ok", "notfound", "forged", "expired", "malformed", "too-long", "unavailable")
)
LOOKUPS = ("found", "notfound", "remembered", "failed")
STS_FETCHES = (
    "fetched",
    "sts-policy-invalid",
    "sts-webpki-invalid",
    "sts-policy-fetch-error",
)  # RFC 8460 section 4.3.2.2
TLS_POLICIES = ("dane", "sts", "verify", "require", "may", "none")
TLS_FAILURES = tuple(
    (policy, result)
    for policy in TLS_POLICIES
    for result in (  # RFC 8460 section 4.3
        "starttls-not-supported",
        "certificate-host-mismatch",
        "certificate-expired",
        "certificate-not-trusted",
        "tlsa-invalid",
        "dnssec-invalid",
        "dane-required",
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
        "validation-failure",
    )
)
# The providers of relay/config/provider_replies.toml; a label has no other values.
PROVIDERS = (
    "google",
    "outlook",
    "microsoft365",
    "yahoo",
    "yahoo-japan",
    "apple",
    "united-internet",
    "t-online",
    "comcast",
    "att",
    "orange",
    "vade",
    "mimecast",
    "proofpoint",
    "barracuda",
    "rackspace",
    "godaddy",
    "qq",
    "netease",
)
OTHER_PROVIDER = "other"
SHAPED = tuple(
    (provider, action)
    for provider in (*PROVIDERS, OTHER_PROVIDER)
    for action in ("slow", "pause", "block", "recovered")
)
LOGINS = ("passed", "failed", "limited", "unchecked")
DNS_LIST_OUTCOMES = ("listed", "clean", "failed")
FILTERED = (  # the actions of rspamd, and what else may come of a message; actions that have no name here are "other"
    "no action",
    "greylist",
    "soft reject",
    "add header",
    "rewrite subject",
    "quarantine",
    "discard",
    "reject",
    "max_score",
    "virus",
    "clean",
    "failed",
    "other",
)
REFUSALS = ("recipient", "policy", "spf", "loop", "size", "content", "protocol", "capacity", "other")


def refusal(reply: Reply) -> str:
    """The class of a refusal, one of REFUSALS, by the subject of its enhanced status code (RFC 3463 section 3)."""
    kind, _, detail = reply.enhanced.partition(".")
    if detail in ("7.23", "7.24"):  # RFC 7372 section 3.2
        return "spf"
    if detail == "4.6":
        return "loop"
    if detail in ("2.3", "3.4"):
        return "size"
    if kind == "4" and detail[:2] in ("3.", "4.", "5."):
        return "capacity"
    subjects = {"1": "recipient", "2": "recipient", "5": "protocol", "6": "content", "7": "policy"}
    return subjects.get(detail.partition(".")[0], "other")


class Metrics:
    """All metrics, for a fixed number of workers. Create it before forking, then `attach` in each worker.

    Cells are aligned doubles, each written by one thread of one process, so that a reader sees whole values.
    """

    def __init__(self, workers: int = 1) -> None:
        self.connections = Counter("connections", "Connections accepted")
        self.sessions = Gauge("sessions", "Sessions open")
        self.message_memory = Gauge("message_memory_bytes", "Octets of messages in flight in memory")
        self.message_spool = Gauge(
            "message_spool_bytes", "Octets of messages in flight that wait on disk for their end"
        )
        self.accepted = Counter("messages_accepted", "Messages that got their 250")
        self.doubtful = Counter(
            "messages_doubtful",
            "Messages that the filter or the DNS lists find doubtful, where [delivery.doubtful] keeps them apart",
            "fate",
            ("accepted", "put off"),
        )
        self.discarded = Counter(
            "messages_discarded", "Messages that got their 250 and went nowhere, as an access table or rspamd says"
        )
        self.refused = Counter("refusals", "Commands and messages refused, by reason", "reason", REFUSALS)
        self.logins = Counter("logins", "Logins of clients, by result", "result", LOGINS)
        self.spf = Counter("spf_results", "SPF results of incoming mail", "result", SPF_RESULTS)
        self.dkim = Counter("dkim_results", "Results of DKIM signatures of incoming mail", "result", DKIM_RESULTS)
        self.arc = Counter("arc_results", "Results of ARC chains of incoming mail", "result", ARC_RESULTS)
        self.dmarc = Counter("dmarc_results", "DMARC results of incoming mail", "result", DMARC_RESULTS)
        self.dns_lists = CounterByName(
            "dns_list_lookups", "Look-ups of clients at DNS lists", ("zone", "result"), DNS_LIST_OUTCOMES
        )
        self.filtered = Counter(
            "filtered", "Messages that the filter was asked about, by its outcome", "outcome", FILTERED
        )
        self.filter_failures = Counter(
            "filter_failures", "Messages of which a filter said nothing", "filter", ("rspamd", "clamd")
        )
        self.unforwardable = Counter(
            "unforwardable", "Messages that would fail DMARC behind us, by what was done", "treatment", TREATMENTS
        )
        self.srs = Counter("srs_addresses", "SRS addresses", "step", ("rewritten", "reversed", "rejected"))
        self.replies = Counter(
            "reply_addresses", "Reply addresses of authors", "step", ("written", "reversed", "rejected")
        )
        self.table_lookups = Counter(
            "table_lookups", "Lookups of Postfix in SRS tables", ("map", "result"), TABLE_LOOKUPS
        )
        self.lookups = Counter("database_lookups", "Questions to the tables that are in a database", "result", LOOKUPS)
        self.mta_sts_fetches = Counter(
            "mta_sts_fetches", "MTA-STS policies fetched from their hosts", "result", STS_FETCHES
        )
        self.deliveries = Counter(
            "deliveries", "Delivery attempts, by outcome", "outcome", ("delivered", "deferred", "failed")
        )
        self.in_session = Counter(
            "in_session",
            "Messages offered to the next hop while the client waits, by what became of them",
            "result",
            OFFERS,
        )
        self.tls_deliveries = Counter(
            "tls_deliveries", "Deliveries, by the TLS policy that held", "policy", TLS_POLICIES
        )
        self.tls_failures = Counter(
            "tls_failures",
            "Connections to next hops with less TLS than the policy asks for, or none",
            ("policy", "result"),
            TLS_FAILURES,
        )
        self.suspended = Gauge(
            "destinations_suspended", "Next hops that refuse us and are tried once a minute, in each process"
        )
        self.suspensions = Counter("destination_suspensions", "How many times a next hop was suspended")
        self.slowed = Gauge(
            "destinations_slowed", "Providers and next hops that mail is slowed down or paused for, in each process"
        )
        self.shaped = Counter(
            "destination_shaped",
            "How many times a reply has slowed or paused mail to a provider, and how many times that was over",
            ("destination", "action"),
            SHAPED,
        )
        self.bounces = Counter("bounces", "Bounces sent, or kept as dead", "fate", ("sent", "dead"))
        self.way_home = HostGauge(
            "way_home", "Whether SRS addresses of ours lead here, as the last proof found it", "result", WAY_HOME
        )
        self.way_home_checked = HostGauge("way_home_checked_seconds", "When the way home was last checked (Unix time)")
        self.transit = Histogram("transit_seconds", "Seconds from acceptance to delivery", TRANSIT_BUCKETS)

        self._metrics = [metric for metric in vars(self).values() if isinstance(metric, SharedMetric)]
        width = sum(metric.size for metric in self._metrics)
        cells = memoryview(mmap.mmap(-1, workers * width * 8)).cast("d")
        self._rows = [cells[number * width : (number + 1) * width] for number in range(workers)]
        self.attach(0)

    def attach(self, worker: int) -> None:
        """Counts in the row of this worker (0 … workers - 1) from now on. Counters go on from their values."""
        self.detach(worker)
        for metric, place in self._cells_of_metrics():
            metric.cells = self._rows[0 if isinstance(metric, HostGauge) else worker][place]

    def detach(self, worker: int) -> None:
        """Sets the gauges of a worker that has ended to 0."""
        for metric, place in self._cells_of_metrics():
            if isinstance(metric, Gauge):
                self._rows[worker][place.start] = 0

    def render(self, queue: Mapping[str, int] | None = None, bad_lines: Mapping[str, int] | None = None) -> bytes:
        """All metrics in the text format of Prometheus.

        Args:
            queue: the number of deliveries in each state.
            bad_lines: the number of unusable lines of each table, by its path.
        """
        families = [
            metric.family([sum(column) for column in zip(*(row[place] for row in self._rows), strict=True)])
            for metric, place in self._cells_of_metrics()
        ]
        if queue is not None:
            states = GaugeMetricFamily("srs_relay_queue_deliveries", "Deliveries in the queue", labels=["state"])
            for state, number in sorted(queue.items()):
                states.add_metric([state], number)
            families.append(states)
        if bad_lines:
            lines = GaugeMetricFamily("srs_relay_table_bad_lines", "Lines that cannot be used", labels=["file"])
            for path, number in sorted(bad_lines.items()):
                lines.add_metric([path], number)
            families.append(lines)
        return generate_latest(_Collected(families))

    def _cells_of_metrics(self) -> Iterator[tuple[SharedMetric, slice]]:
        start = 0
        for metric in self._metrics:
            yield metric, slice(start, start + metric.size)
            start += metric.size


@dataclass(frozen=True, slots=True)
class _Collected:
    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families
