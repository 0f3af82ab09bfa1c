"""`python -m bench.safety`: judges the frozen texts, measures the price, writes bench/results/safety.json, the page of
figures, and which categories may block.

--quality and --price do one half, and keep the other as it is in the results.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import interpreters, machines
from bench.safety.frozen import HARMS, frozen_samples
from bench.safety.judged import judge_all
from bench.safety.page import write_page
from bench.safety.price import price_figures
from bench.safety.quality import quality_figures
from bench.safety.served import served_figures
from modelport import safety
from modelport.safety.levels import trained_levels

RESULTS = Path(__file__).parents[1] / "results" / "safety.json"
LEVELS = Path(safety.__file__).parent / "data" / "classifier.json"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.safety", description=(__doc__ or "").split("\n")[0])
    half = parser.add_mutually_exclusive_group()
    half.add_argument("--quality", action="store_true", help="only how well the filters judge")
    half.add_argument("--price", action="store_true", help="only what judging costs")
    wanted = parser.parse_args()
    samples = frozen_samples()
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results |= {
        "command": "python -m bench.safety",
        "machine": machines.described(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "python": interpreters.described(Path(sys.executable)),
        "version": trained_levels().version,
    }
    if not wanted.price:
        results["quality"] = quality_figures(asyncio.run(judge_all(samples)))
        write_annotate_only(results["quality"]["blocking"])
    if not wanted.quality:
        results["price"] = price_figures(samples)
        results["served"] = served_figures(samples)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page()
    print(json.dumps(results, indent=1))


def write_annotate_only(blocking: Sequence[str]) -> None:
    """The data file names the categories that miss a bar: the built-in policies read it."""
    document = json.loads(LEVELS.read_text(encoding="utf-8"))
    document["annotate_only"] = [harm for harm in HARMS if harm not in blocking]
    LEVELS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
