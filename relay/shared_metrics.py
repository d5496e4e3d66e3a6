"""The kinds of metrics: counters, gauges and histograms in memory that the worker processes share.

Each worker has a row of numbers in an anonymous shared mapping, made before the supervisor forks it, and writes to its
own row only. The process that answers a scrape adds the rows up. Counting needs no system call and no lock. The row of
a dead worker is kept, and its successor goes on counting in it. (The multiprocess mode of prometheus-client needs a
folder and an environment variable set before its import, and leaves a file behind for every worker.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice, product

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

NAMES = 32  # of a `CounterByName`


class SharedMetric(ABC):
    """A metric, which has some cells of every row.

    Attributes:
        cells: those of this worker.
        size: the number of cells.
    """

    cells: memoryview[float]

    def __init__(self, name: str, documentation: str, size: int) -> None:
        self.name, self.documentation, self.size = f"srs_relay_{name}", documentation, size

    @abstractmethod
    def family(self, totals: Sequence[float]) -> Metric:
        """The metric for prometheus-client, from the sums over all rows."""


Labels = str | tuple[str, ...]


class Counter(SharedMetric):
    """A number that only grows, or one for each value of a label, or of several labels, whose names and values are then
    tuples. Unknown values count as the last one."""

    def __init__(self, name: str, documentation: str, label: Labels = "", values: Sequence[Labels] = ("",)) -> None:
        super().__init__(name, documentation, len(values))
        self._label, self._cell = label, {value: number for number, value in enumerate(values)}

    def add(self, value: Labels = "", amount: float = 1) -> None:
        """Counts `amount` for a value of the label."""
        self.cells[self._cell.get(value, self.size - 1)] += amount

    def family(self, totals: Sequence[float]) -> Metric:
        if not self._label:
            return CounterMetricFamily(self.name, self.documentation, value=totals[0])
        family = CounterMetricFamily(self.name, self.documentation, labels=_listed(self._label))
        for value, number in self._cell.items():
            family.add_metric(_listed(value), totals[number])
        return family


class CounterByName(SharedMetric):
    """A number for each value of a label, and for each of some names that the configuration has.

    Args:
        labels: what the names are, and the other label.
    """

    def __init__(self, name: str, documentation: str, labels: tuple[str, str], values: Sequence[str]) -> None:
        super().__init__(name, documentation, NAMES * len(values))
        self._labels, self._values, self._names = labels, values, list[str]()

    def adopt(self, names: Iterable[str]) -> None:
        """Names that are counted from now on; to be called before forking. Past `NAMES` there is no room for more."""
        new = (name for name in dict.fromkeys(names) if name not in self._names)
        self._names += islice(new, NAMES - len(self._names))

    def add(self, name: str, value: str) -> None:
        """Counts one for a name and a value of the label, if the name was adopted."""
        if name in self._names:
            self.cells[self._names.index(name) * len(self._values) + self._values.index(value)] += 1

    def family(self, totals: Sequence[float]) -> Metric:
        family = CounterMetricFamily(self.name, self.documentation, labels=self._labels)
        for pair, total in zip(product(self._names, self._values), totals, strict=False):
            family.add_metric(pair, total)
        return family


def _listed(labels: Labels) -> list[str]:
    return [labels] if isinstance(labels, str) else list(labels)


class Gauge(SharedMetric):
    """A number that rises and falls, and is 0 again when its worker has ended."""

    def __init__(self, name: str, documentation: str) -> None:
        super().__init__(name, documentation, 1)

    def add(self, amount: float) -> None:
        """Adds an amount, which may be negative."""
        self.cells[0] += amount

    def set(self, value: float) -> None:
        """Sets the value of this worker."""
        self.cells[0] = value

    def family(self, totals: Sequence[float]) -> Metric:
        return GaugeMetricFamily(self.name, self.documentation, value=totals[0])


class HostGauge(SharedMetric):
    """A number for the whole host, or one for each value of a label, as the worker set it that knew it last.

    It outlives that worker.
    """

    def __init__(self, name: str, documentation: str, label: str = "", values: Sequence[str] = ("",)) -> None:
        super().__init__(name, documentation, len(values))
        self._label, self._cell = label, {value: number for number, value in enumerate(values)}

    def set(self, number: float, value: str = "") -> None:
        """Sets the number for a value of the label."""
        self.cells[self._cell[value]] = number

    def get(self, value: str = "") -> float:
        """The number for a value of the label; 0 before it was set."""
        return self.cells[self._cell[value]]

    def family(self, totals: Sequence[float]) -> Metric:
        if not self._label:
            return GaugeMetricFamily(self.name, self.documentation, value=totals[0])
        family = GaugeMetricFamily(self.name, self.documentation, labels=[self._label])
        for value, number in self._cell.items():
            family.add_metric([value], totals[number])
        return family


class Histogram(SharedMetric):
    """How many durations fell into each bucket, and their sum, which is in the last cell."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        super().__init__(name, documentation, len(buckets) + 2)
        self._buckets = buckets

    def observe(self, seconds: float) -> None:
        """Counts a duration."""
        self.cells[bisect_left(self._buckets, seconds)] += 1
        self.cells[-1] += seconds

    def family(self, totals: Sequence[float]) -> Metric:
        bounds = [*map(str, map(float, self._buckets)), "+Inf"]
        buckets = list(zip(bounds, accumulate(totals[:-1]), strict=True))
        return HistogramMetricFamily(self.name, self.documentation, buckets=buckets, sum_value=totals[-1])
