"""`python -m bench`: prints messages a second, processor time a message, memory and latency.

The figures hold for this machine at this moment. To compare, use `python -m bench.compare`, or run another relay on the
machine in the same minute and quote the ratio.
"""

from __future__ import annotations

import argparse

import uvloop

from bench import latency, load, machine, rsa, stall

OTHERS = ("LAT", "STALL")
MODES, SEALS = ("queue", "in-session"), ("true", "false", "useful")
_BY_TOML = {"true": "true", "false": "false", "useful": '"useful"'}


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=3000, help="of each workload (default: 3000)")
    parser.add_argument("--workload", choices=[*load.WORKLOADS, *OTHERS], action="append", help="default: all")
    parser.add_argument("--mode", choices=MODES, action="append", help="delivery.mode (default: both)")
    parser.add_argument("--seal", choices=SEALS, action="append", help="arc.seal (default: true and false)")
    parser.add_argument("--set", action="append", default=[], metavar="LINE", help="a line of TOML to configure it")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    for name in options.workload or [*load.WORKLOADS, *OTHERS]:
        if name == "STALL":
            turns = await stall.run(min(options.messages, 1000), 20)
            print(f"STALL 10 MB mixed into 10 KiB, the longest turns of the loop:\n{turns}", flush=True)
            continue
        for mode in options.mode or MODES:
            for seal in options.seal or ("true", "false"):
                settings = [f'delivery.mode = "{mode}"', f"arc.seal = {_BY_TOML[seal]}", *options.set]
                print(
                    f"{name:<4} {mode:<10} seal={seal:<6} {await _figures(name, options.messages, settings)}",
                    flush=True,
                )


async def _figures(name: str, messages: int, settings: list[str]) -> str:
    if name == "LAT":
        times = await latency.run(10, 10_240, min(messages, 300), settings)
        return f"10 messages/s of 10 KiB: p50 {times.p50:.1f} ms, p99 {times.p99:.1f} ms"
    workload = load.WORKLOADS[name]
    needed = await rsa.operations(workload, settings)
    before = rsa.measure()
    figures = await load.run(workload, messages, settings)
    after = rsa.measure()
    of_rsa = (needed.cost(before) + needed.cost(after)) / 2
    return (
        f"{workload}: {figures.rate:.0f} messages/s, {figures.cpu:.2f} ms of CPU a message "
        f"({figures.cpu - of_rsa:.2f} without RSA: signatures {needed.signatures} x {before.signature:.2f} ms, "
        f"checks {needed.checks} x {before.check:.2f} ms), {figures.memory / 2**20:.0f} MiB"
    )


uvloop.run(main())
