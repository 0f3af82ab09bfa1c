"""The frozen test sets, as they were committed before the training."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"
HARMS = ("hate", "sexual", "violence", "self_harm")


@dataclass(frozen=True, slots=True)
class Sample:
    """One text. `score`: of human raters in the set `scored`, of the author in `harmful_prompts`, else None."""

    set: str
    category: str
    text: str
    score: float | None = None


def frozen_samples() -> list[Sample]:
    """All of them. Raises SystemExit where a file is not what its hash says."""
    check_hashes()
    samples: list[Sample] = []
    for name in ("scored", "fragments", "jailbreaks", "attacks"):
        for line in gzip.decompress((DATA / f"{name}.jsonl.gz").read_bytes()).decode().rstrip("\n").split("\n"):
            row = json.loads(line)
            samples.append(Sample(name, row["category"], row["text"], row["score"]))
    for line in (DATA / "harmful_prompts.tsv").read_text(encoding="utf-8").splitlines():
        category, score, text = line.split("\t")
        samples.append(Sample("harmful_prompts", category, text, float(score)))
    for category in (*HARMS, "attack"):
        lines = (DATA / f"benign_{category}.txt").read_text(encoding="utf-8").splitlines()
        samples += [Sample("benign", category, line) for line in lines]
    everyday = (DATA / "everyday.txt").read_text(encoding="utf-8").splitlines()
    return samples + [Sample("everyday", "benign", line) for line in everyday]


def check_hashes() -> None:
    """Compares every file with SHA256SUMS."""
    for line in (DATA / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, name = line.split()
        content = (DATA / name).read_bytes()
        plain = gzip.decompress(content) if name.endswith(".gz") else content
        if hashlib.sha256(plain).hexdigest() != expected:
            raise SystemExit(f"{DATA / name} is not the file that was frozen")
