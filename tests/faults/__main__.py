"""Put the store through all that can go wrong, and print what was tried: `make torture`.

A part is a function in PARTS. It takes what to call with a line of progress, and returns its counts
and complaints; a test in the suite runs a fixed, small budget of the same.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.faults import clients, damage, many_processes, operations, power_loss, storm
from tests.faults.part import Part

PARTS: dict[str, Part] = {
    "operations": operations.part,
    "power-loss": power_loss.part,
    "damage": damage.part,
    "kills": many_processes.kills,
    "stress": many_processes.stress,
    "clients": clients.load,
    "restarts": clients.restarts,
    "storm": storm.storm,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}: all")
    asked = parser.parse_args().parts or list(PARTS)
    if unknown := sorted(set(asked) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}: choose of {', '.join(PARTS)}")
    lines, broken = [], 0
    for name in asked:
        started = time.monotonic()
        outcome = PARTS[name](lambda line, name=name: print(f"{name}: {line}", flush=True))  # type: ignore[misc]
        for complaint in outcome.complaints:
            print(f"{name}: BROKEN: {complaint}")
        broken += len(outcome.complaints)
        counts = ", ".join(f"{number:,} {what}" for what, number in outcome.counts.items())
        seconds = time.monotonic() - started
        lines.append(f"{name}: {counts}; {len(outcome.complaints)} complaints; {seconds:.0f} s")
    print(*lines, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
