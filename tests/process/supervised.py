"""`python -m tests.process.supervised FOLDER`: a supervisor with workers that only wait, for `test_supervisor`.

Each worker writes its process number and its name in leases to FOLDER/owners, and the thresholds of its garbage
collector to FOLDER/collector. The file FOLDER/workers says how many there are; it is read again at SIGHUP.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from pathlib import Path

from relay import log
from relay.config.model import Config
from relay.process.files import read_files
from relay.process.supervisor import Supervisor, WorkerSetup

PARENT_GONE = 3  # exit status


def load(folder: Path) -> Config:
    return Config.model_validate(
        {
            "hostname": "mx.test",
            "workers": int((folder / "workers").read_text()),
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "srs.secret"},
            "queue": {"url": "sqlite:///queue.db"},
        },
        context={"base": folder},
    )


def work(setup: WorkerSetup, folder: Path) -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    (folder / "collector").write_text(" ".join(map(str, gc.get_threshold())))
    with (folder / "owners").open("a") as owners:
        owners.write(f"{os.getpid()} {setup.owner}\n")
    select.select([setup.parent_gone], [], [])
    return PARENT_GONE


def main(folder: Path) -> int:
    log.configure("json", "info", sys.stdout)
    return Supervisor(lambda: load(folder), read_files, lambda setup: work(setup, folder)).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
