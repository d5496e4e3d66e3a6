"""`python -m bench.profile W1`: where a message's processor time goes, stage by stage.

One worker runs under cProfile, on a core of its own where there are two. cProfile makes every call dearer, so what it
adds to a call is measured and taken off. The same relay runs without it as well, and the stages are scaled to the
processor time that its worker used: so the proportions are those of the profile, and the sum is that of the relay.

    python -m bench.profile W1 --set 'arc.seal = false'
    python -m bench.profile W1 --before ../checkout-of-main --functions 40
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pstats
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from bench import machine
from bench.load import WORKLOADS, Sink, Workload, burst, content_of
from bench.running_relay import HERE, Program, RunningRelay, free_port, relay
from bench.stages import Function, Stats, by_stage

WRAPPER = Path(__file__).with_name("profiled_relay.py")
WARM_UP = 300
PATIENCE = 300.0
BUSY = 0.05  # more waiting than this share, and the stages that wait seem dearer than they are
LOOP, REST = "loop outside of Python", "other threads, supervisor"


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds of processor time, and calls, for each message."""

    ms: float
    calls: float


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time went.

    Attributes:
        stages: by name, with `LOOP` and `REST`.
        functions: each with its own microseconds, and its calls, a message; the dearest first.
        waited: by how much functions took longer by the clock than the processor worked for them, as a share.
    """

    stages: dict[str, Row]
    functions: list[tuple[float, float, Function]]
    waited: float

    @property
    def total(self) -> Row:
        """Of all stages."""
        return Row(sum(row.ms for row in self.stages.values()), sum(row.calls for row in self.stages.values()))


async def profile(
    program: Program, workload: Workload, messages: int, settings: Sequence[str], core: int | None
) -> Profile:
    """Run a relay with one worker without the profiler, then another one with it, under so many messages each.

    Args:
        settings: lines of TOML that change its configuration.
        core: the worker's, see `leave_a_core`.
    """
    port = free_port()
    sink = await Sink.start(port)
    try:
        with tempfile.TemporaryDirectory(prefix="srs-relay-profile-") as folder:
            async with content_of(workload) as content, asyncio.timeout(PATIENCE):
                start = partial(
                    relay, port, signed=workload.signed, settings=["workers = 1", *settings], program=program
                )
                send = partial(burst, sink=sink, sessions=workload.sessions, content=content)
                async with start() as running:
                    _pin(running, core)
                    await send(running, messages=WARM_UP)
                    before = _main_thread(running)
                    whole = (await send(running, messages=messages)).cpu
                    main_thread = (_main_thread(running) - before) / messages * 1000
                async with start(wrapper=("-P", str(WRAPPER), folder)) as running:
                    _pin(running, core)
                    await send(running, messages=WARM_UP)
                    (worker,) = running.workers
                    os.kill(worker, signal.SIGUSR1)
                    await send(running, messages=messages)
                    os.kill(worker, signal.SIGUSR2)
                    while not (done := Path(folder, f"{worker}.done")).exists():
                        await asyncio.sleep(0.05)
            stats: Stats = vars(pstats.Stats(str(done.with_suffix(".stats"))))["stats"]
            python, builtin, used = map(float, done.read_text().split())
    finally:
        await sink.stop()
    in_python = sum(own for _, _, own, *_ in stats.values())
    loop = max(0.0, used - in_python) / messages * 1000  # what the profiler adds is all within functions
    stages = scaled(in_milliseconds(stats, messages, python, builtin), main_thread - loop)
    stages[LOOP], stages[REST] = Row(loop, 0.0), Row(whole - main_thread, 0.0)
    waited = in_python / used - 1
    functions = [(own / messages * 1e6, calls / messages, name) for name, (_, calls, own, *_) in stats.items()]
    return Profile(stages, sorted(functions, reverse=True), waited)


def in_milliseconds(stats: Stats, messages: int, python: float, builtin: float) -> dict[str, Row]:
    """The stages for each message, without what the profiler added.

    Args:
        python, builtin: seconds that it added to a call of a Python function, and of a built-in one.
    """
    rows = {}
    for stage, cost in by_stage(stats).items():
        seconds = max(0.0, cost.seconds - cost.python * python - cost.builtin * builtin)
        rows[stage] = Row(seconds / messages * 1000, (cost.python + cost.builtin) / messages)
    return rows


def scaled(rows: Mapping[str, Row], whole: float) -> dict[str, Row]:
    """The stages with their proportions, so that they add up to so many milliseconds."""
    factor = max(0.0, whole) / (sum(row.ms for row in rows.values()) or 1.0)
    return {stage: Row(row.ms * factor, row.calls) for stage, row in rows.items()}


def leave_a_core() -> int | None:
    """Keep this process, and those that it starts, off one core; returns that core. None where there is but one."""
    *others, last = sorted(os.sched_getaffinity(0))
    if not others:
        return None
    os.sched_setaffinity(0, others)
    return last


def _pin(running: RunningRelay, core: int | None) -> None:
    if core is not None:
        for worker in running.workers:
            os.sched_setaffinity(worker, [core])


def _main_thread(running: RunningRelay) -> float:
    """Seconds of processor time that the main thread of the worker has used."""
    (worker,) = running.workers
    return int(Path(f"/proc/{worker}/task/{worker}/schedstat").read_text().split()[0]) / 1e9


def table(profiles: Sequence[Profile]) -> str:
    """The stages as lines, with two columns for each profile."""
    lines = [f"{'':<28}" + f"{'ms':>10}{'calls':>8}" * len(profiles)]
    for stage in [*profiles[0].stages, "all"]:
        rows = [profile.total if stage == "all" else profile.stages[stage] for profile in profiles]
        lines.append(f"{stage:<28}" + "".join(f"{row.ms:>10.3f}{row.calls:>8.0f}" for row in rows))
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--before", metavar="PLACE", help="another relay for a column of its own, as bench.compare")
    parser.add_argument("--messages", type=int, default=1500, help="of each run (default: 1500)")
    parser.add_argument("--set", action="append", default=[], metavar="LINE", help="a line of TOML to configure it")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="the dearest functions as well")
    options = parser.parse_args()
    programs = [Program.at(options.before)] if options.before else []
    profiles = []
    core = leave_a_core()
    for program in [*programs, HERE]:
        print(f"{program}\n{machine.describe(program)}", flush=True)
        profiles.append(await profile(program, WORKLOADS[options.workload], options.messages, options.set, core))
    print(f"\n{options.workload}: {WORKLOADS[options.workload]}, for each message\n{table(profiles)}", flush=True)
    for program, found in zip([*programs, HERE], profiles, strict=True):
        if found.waited > BUSY:
            print(f"WARNING: {program} waited {found.waited * 100:.0f} % of its time for the processor: repeat it")
    for microseconds, calls, (file, line, name) in profiles[-1].functions[: options.functions]:
        print(f"{microseconds:8.1f} us {calls:7.2f} calls  {file}:{line} {name}")


if __name__ == "__main__":
    uvloop.run(main())
