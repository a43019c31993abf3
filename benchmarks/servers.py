"""Compare the store with ml-metadata on one SQL server: `python -m benchmarks.servers [SERVER]`.

A server of PostgreSQL or MariaDB is started with its default durability, with a database for each
side, and they take turns as in `python -m benchmarks`. Both sides have their server to themselves.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from google.protobuf.json_format import MessageToJson

from benchmarks.__main__ import _compared, _work
from benchmarks.results import markdown, print_table
from tests.differential.mlmd_servers import new_config
from tests.sql_servers import SERVERS, Server, running

DURABLE = {
    "postgresql": ["fsync=on", "shared_buffers=128MB"],
    "mariadb": [
        *("--innodb-flush-log-at-trx-commit=1", "--loose-innodb-doublewrite=1"),
        "--innodb-buffer-pool-size=128M",
    ],
}


def main() -> None:
    """Fill both sides of each server, measure in turns, print a table and Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("server", nargs="*", choices=[*SERVERS, []], help="all if none is named")
    parser.add_argument("--size", type=int, default=5_000, help="artifacts to begin with")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for name in arguments.server or SERVERS:
        with running(name, DURABLE[name]) as server:
            _compare(name, server, arguments)


def _compare(name: str, server: Server, arguments: Any) -> None:
    size = arguments.size
    configs = {side: MessageToJson(new_config(server)[1]) for side in ("peer", "ours")}
    for side, config in configs.items():
        _work(side, "fill", config, size)
    times: dict[str, dict[str, list[float]]] = {"peer": {}, "ours": {}}
    for _ in range(arguments.rounds):
        for side, config in configs.items():
            for task in ("put", "read"):
                for workload, seconds in _work(side, task, config, size).items():
                    times[side].setdefault(workload, []).extend(seconds)
    results = [result for result in _compared(times) if result.peer]
    print_table(f"{name}, {size:,} artifacts, medians in ms", results)
    sys.stdout.write(markdown(results))


if __name__ == "__main__":
    main()
