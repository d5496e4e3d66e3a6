"""`python -m bench`: a table of messages a second, processor time a message, memory and latency.

These figures hold for the machine of the moment. To compare, run another relay beside this one in the same minute and
quote the ratio.
"""

from __future__ import annotations

import argparse
import asyncio

from bench import latency, load

WORKLOADS = {"W1": (20, 10_240), "W2": (100, 10_240), "W3": (20, 102_400)}  # sessions, octets a message


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=3000, help="of each workload (default: 3000)")
    parser.add_argument("--workload", choices=[*WORKLOADS, "LAT"], action="append", help="default: all")
    options = parser.parse_args()
    for name in options.workload or [*WORKLOADS, "LAT"]:
        if name == "LAT":
            times = await latency.run(10, 10_240, min(options.messages, 300))
            print(f"LAT  10 messages/s of 10 KiB: p50 {times.p50:.1f} ms, p99 {times.p99:.1f} ms", flush=True)
            continue
        sessions, octets = WORKLOADS[name]
        found = await load.run(sessions, octets, options.messages)
        print(
            f"{name:<4} {sessions} sessions, {octets // 1024} KiB: {found.rate:.0f} messages/s, "
            f"{found.cpu:.2f} ms of CPU a message, {found.memory / 2**20:.0f} MiB",
            flush=True,
        )


asyncio.run(main())
