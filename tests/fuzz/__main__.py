"""`python -m tests.fuzz TARGET --seconds N`: the coverage-guided fuzzer (atheris) on one parser, see `parsers`.

What makes the parser fail is written to a file `crash-…`; the same command with that file as argument runs it again. A
folder given with `--corpus` keeps what was found interesting, for the next run to begin with.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["relay"]):
    from tests.fuzz.parsers import SEEDS, TARGETS

LONGEST = 4096  # octets of one input
SLOWEST = 10  # seconds for one input: more is a failure
MEMORY = 1024  # MiB


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60, help="how long it runs (default: 60)")
    parser.add_argument("--corpus", type=Path, help="the folder of inputs to begin with, and to add to")
    parser.add_argument("file", nargs="*", help="run these inputs alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="srs-relay-fuzz-") as folder:
        for number, seed in enumerate(SEEDS[options.target]):
            Path(folder, f"seed-{number}").write_bytes(seed)
        corpus = [] if options.file else [*([str(options.corpus)] if options.corpus else []), folder]
        limits = (f"-max_len={LONGEST}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}")
        ending = () if options.file else (f"-max_total_time={options.seconds}", "-print_final_stats=1")
        atheris.Setup([sys.argv[0], *limits, *ending, *options.file, *corpus], TARGETS[options.target])
        atheris.Fuzz()


main()
