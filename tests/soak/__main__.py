"""The command: `python -m tests.soak --crashes 1000000 --seed 7`."""

from __future__ import annotations

import argparse
import sys

from .meter import Reading, growth
from .run import Result, soak

MOST_GROWTH = 0.02  # of memory, from the first tenth of the run to the last
MOST_STOP_SECONDS = 1.0


def main() -> int:
    """Run a soak, print what it has seen, and say by the exit code whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--crashes", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=100, help="audits on the way")
    options = parser.parse_args()
    print(
        f"seed {options.seed}: {options.crashes:,} crashes in {options.rounds} rounds", flush=True
    )
    result = soak(options.crashes, options.seed, options.rounds, progress)
    return tell(result)


def progress(crashes: int, reading: Reading) -> None:
    """Print one line for a round."""
    print(f"{crashes:>10,} crashes, {reading}", flush=True)


def tell(result: Result) -> int:
    """Print the result; gives the exit code."""
    grown = growth(result.memory)
    print(result)
    print(f"{result.crashes / result.real_seconds:,.0f} crashes a second")
    print(f"memory: {grown.blocks:+.2%} blocks, {grown.megabytes:+.2%} resident")
    print(f"the end took {result.real_stop_seconds:.2f} s")
    memory_is_flat = max(grown.blocks, grown.megabytes) <= MOST_GROWTH
    return 0 if memory_is_flat and result.real_stop_seconds <= MOST_STOP_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
