"""`python -m bench`: prints messages a second, processor time a message, memory and latency.

The figures hold for this machine at this moment. To compare, run another relay on it in the same minute and quote the
ratio.
"""

from __future__ import annotations

import argparse

import uvloop

from bench import latency, load, stall

# sessions, octets a message, whether the sender signs
WORKLOADS = {
    "W1": (20, 10_240, False),
    "W2": (100, 10_240, False),
    "W3": (20, 102_400, False),
    "AUTH": (20, 10_240, True),
}
OTHERS = ("LAT", "STALL")


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=3000, help="of each workload (default: 3000)")
    parser.add_argument("--workload", choices=[*WORKLOADS, *OTHERS], action="append", help="default: all")
    parser.add_argument("--mode", choices=["queue", "in-session"], default="queue", help="delivery.mode")
    options = parser.parse_args()
    for name in options.workload or [*WORKLOADS, *OTHERS]:
        if name == "LAT":
            times = await latency.run(10, 10_240, min(options.messages, 300), options.mode)
            print(f"LAT  10 messages/s of 10 KiB: p50 {times.p50:.1f} ms, p99 {times.p99:.1f} ms", flush=True)
            continue
        if name == "STALL":
            turns = await stall.run(min(options.messages, 1000), 20)
            wall, cpu = (", ".join(f"{ms:.1f}" for ms in times) or "none over 5" for times in (turns.wall, turns.cpu))
            print(f"STALL 10 MB mixed into 10 KiB: longest turns of the loop {wall} ms, of CPU {cpu} ms", flush=True)
            continue
        sessions, octets, signed = WORKLOADS[name]
        figures = await load.run(sessions, octets, options.messages, signed=signed, mode=options.mode)
        messages = f"{octets // 1024} KiB{', signed' if signed else ''}"
        print(
            f"{name:<4} {sessions} sessions, {messages}: {figures.rate:.0f} messages/s, "
            f"{figures.cpu:.2f} ms of CPU a message, {figures.memory / 2**20:.0f} MiB",
            flush=True,
        )


uvloop.run(main())
