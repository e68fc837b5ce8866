"""`python -m tests.fuzz --programs N --seed S [--kind ir|eager]`: random programs in every way.

Prints how often each op occurred, what share of the programs each way ran, and for each failure
the smallest program found that still fails. The exit status is the number of failures, at most 1.
"""

import argparse
import sys

from . import ir_run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=300, help="how many (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow it")
    parser.add_argument("--kind", choices=("ir", "eager"), default="ir")
    parser.add_argument("--shown", type=int, default=10, help="failures that are minimised")
    options = parser.parse_args(arguments)
    seeds = range(options.seed, options.seed + options.programs)
    if options.kind == "eager":
        from . import eager_run

        return eager_run.main(seeds, options.shown)
    return ir_run.main(seeds, options.shown)


if __name__ == "__main__":
    sys.exit(main())
