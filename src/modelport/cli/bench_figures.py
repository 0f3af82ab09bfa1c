"""What a run's samples say: rates, percentiles, problems; for programs, for a terminal, and as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from modelport.cli import charts
from modelport.cli.bench_client import Sample

SHARES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
TIMES: Mapping[str, str] = {
    "first_ms": "first token",
    "between_tokens_ms": "between tokens",
    "latency_ms": "whole answer",
}
SPANS = 40


def figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Everything in one document. Times are of good answers only; problems are counted by what was said."""
    good = [sample for sample in samples if sample.problem is None]
    elapsed = max(s.ended for s in samples) - min(s.started for s in samples) if samples else 0.0
    tokens = [sample.tokens for sample in good if sample.tokens is not None]
    return {
        "requests": len(samples),
        "good": len(good),
        "failed": len(samples) - len(good),
        "elapsed_seconds": round(elapsed, 3),
        "requests_per_second": round(len(good) / elapsed, 2) if elapsed else 0.0,
        "output_tokens": sum(tokens) if tokens else None,
        "output_tokens_per_second": round(sum(tokens) / elapsed, 1) if tokens and elapsed else None,
        "tokens_are": tokens_are(good) if tokens else None,
        **{name: times(values) for name, values in series(good).items()},
        "problems": dict(Counter(s.problem for s in samples if s.problem is not None).most_common()),
    }


def series(good: Sequence[Sample]) -> dict[str, list[float]]:
    """Milliseconds, sorted."""
    return {
        "first_ms": sorted(s.first * 1000 for s in good if s.first is not None),
        "between_tokens_ms": sorted(gap * 1000 for s in good for gap in s.gaps),
        "latency_ms": sorted((s.ended - s.started) * 1000 for s in good),
    }


def times(ordered: Sequence[float]) -> dict[str, float] | None:
    """Mean, percentiles, the slowest."""
    if not ordered:
        return None
    found = {"mean": sum(ordered) / len(ordered)}
    found |= {name: charts.percentile(ordered, share) for name, share in SHARES.items()}
    return {name: round(value, 3) for name, value in {**found, "max": ordered[-1]}.items()}


def tokens_are(good: Sequence[Sample]) -> str:
    """Whether the endpoint counted the tokens, or we the events of its streams."""
    return "reported" if all(sample.are_tokens_reported for sample in good) else "counted"


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The rates, in words."""
    lines = [
        f"{found['good']} of {found['requests']} requests answered in {found['elapsed_seconds']:.1f} s: "
        f"{found['requests_per_second']:,.1f} requests/s"
    ]
    if found["output_tokens"] is not None:
        lines.append(
            f"{found['output_tokens']:,} output tokens ({found['tokens_are']}): "
            f"{found['output_tokens_per_second']:,.1f} tokens/s"
        )
    return lines


def time_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """A row for each kind of time, in milliseconds."""
    columns = ("mean", *SHARES, "max")
    kinds = [(name, title) for name, title in TIMES.items() if found[name] is not None]
    return [[title, *(milliseconds(found[name][column]) for column in columns)] for name, title in kinds]


TIME_COLUMNS = ("milliseconds", "mean", *SHARES, "max")


def milliseconds(value: float) -> str:
    """As many digits as mean something."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def plot(found: Mapping[str, Any], samples: Sequence[Sample]) -> list[str]:
    """The charts: every kind of time by percentile, and the rate over the run."""
    good = [sample for sample in samples if sample.problem is None]
    found = series(good)
    between = found.pop("between_tokens_ms")
    drawn = [charts.percentile_curves("Times by percentile", "ms", {TIMES[name]: found[name] for name in found})]
    if between:
        drawn.append(charts.percentile_curves("Between tokens", "ms", {TIMES["between_tokens_ms"]: between}))
    return [*drawn, charts.timeline(*rates(samples))]


def rates(samples: Sequence[Sample]) -> tuple[str, float, list[float]]:
    """(title, seconds, answers per second in each of so many spans of the run)."""
    begun = min((sample.started for sample in samples), default=0.0)
    elapsed = max((sample.ended for sample in samples), default=0.0) - begun or 1.0
    counts = [0.0] * SPANS
    for sample in samples:
        if sample.problem is None:
            counts[min(int((sample.ended - begun) / elapsed * SPANS), SPANS - 1)] += SPANS / elapsed
    return "Answers per second over the run", elapsed, counts


def page(heading: str, about: Sequence[str], found: Mapping[str, Any], samples: Sequence[Sample]) -> str:
    """One HTML file with the figures and the charts."""
    problems = [[str(count), said] for said, count in found["problems"].items()]
    parts = [charts.paragraph(line) for line in (*about, *sentences(found))]
    parts += [charts.table(TIME_COLUMNS, time_rows(found)), *plot(found, samples)]
    if problems:
        parts.append(charts.table(("failed", "what was said"), problems))
    return charts.page(heading, parts)
