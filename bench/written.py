"""Results as files: `bench/results/local` for whoever measures, `bench/results` for figures that documents name."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from bench import interpreters, machines

RESULTS = Path(__file__).parent / "results"


def write(what: str, name: str | None, content: dict[str, Any]) -> None:
    """As JSON, with the command, the machine and the interpreter. `name`: of a file that is to stay."""
    path = RESULTS / f"{name}.json" if name else RESULTS / "local" / f"{what}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = [word for word in sys.argv[1:] if "/" not in word]
    facts = {
        "command": " ".join(["python -m", f"bench.{Path(sys.argv[0]).stem}", *arguments]),
        "machine": machines.described(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "python": interpreters.described(Path(sys.executable)),
    }
    path.write_text(json.dumps({**facts, **content}, indent=2) + "\n")
    print(f"written to {path.relative_to(RESULTS.parent.parent)}")
