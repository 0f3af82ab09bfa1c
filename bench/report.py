"""What a run found, as a table for the terminal, and as one HTML file with its plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bench import bar, charts
from bench.contenders import FLOOR, OURS

GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "requests": ("Whole answers", ("rps", "rps_x_nginx", "cpu_us", "cpu_us_x_nginx", "p50_us", "p99_us")),
    "latency": ("Latency at a fixed rate", ("p50_us", "p99_us", "added_p50_us", "cpu_us", "cpu_us_x_nginx")),
    "streams": (
        "Streams",
        (
            "events_per_second",
            "cpu_us_per_event",
            "cpu_us_per_event_x_nginx",
            "chunk_p50_us",
            "chunk_p99_us",
            "ttfb_p50_us",
            "added_ttfb_p50_us",
        ),
    ),
    "tls": ("TLS to the upstream", ("rps", "rps_x_nginx", "cpu_us", "cpu_us_x_nginx", "p50_us", "p99_us")),
    "churn": ("A new connection for each request", ("rps", "rps_x_nginx", "cpu_us", "p50_us", "p99_us")),
    "refusals": ("Refusals", ("rps", "rps_x_nginx", "cpu_us", "p50_us", "p99_us")),
    "features": ("What each feature costs", ("rps", "cpu_us", "rps_x_all", "cpu_us_saved")),
    "memory": ("Memory", ("base_mb", "kb_per_stream", "streams")),
}
WORDS = {
    "rps": "requests/s",
    "rps_x_nginx": "x nginx",
    "rps_x_all": "x modelport",
    "cpu_us": "CPU us/request",
    "cpu_us_saved": "CPU us saved",
    "cpu_us_x_nginx": "x nginx CPU",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "added_p50_us": "added p50 us",
    "events_per_second": "events/s",
    "cpu_us_per_event": "CPU us/event",
    "cpu_us_per_event_x_nginx": "x nginx CPU",
    "chunk_p50_us": "delay p50 us",
    "chunk_p99_us": "delay p99 us",
    "ttfb_p50_us": "first event p50 us",
    "added_ttfb_p50_us": "added us",
    "base_mb": "base MB",
    "kb_per_stream": "KB/stream",
    "streams": "streams",
}
PLOTTED = {
    "requests": "rps",
    "latency": "p50_us",
    "streams": "cpu_us_per_event",
    "tls": "rps",
    "churn": "rps",
    "refusals": "rps",
    "features": "cpu_us",
    "memory": "kb_per_stream",
}


def text(report: Mapping[str, Any]) -> str:
    """The tables, as they are printed."""
    lines = [", ".join(facts(report))]
    for group, (title, figures) in GROUPS.items():
        found = [scenario for scenario in report["scenarios"] if scenario["group"] == group]
        if not found:
            continue
        heads = [WORDS[figure] for figure in figures]
        widths = [max(len(head), 10) for head in heads]
        lines += ["", f"{title:<30}" + "".join(f"{head:>{w + 2}}" for head, w in zip(heads, widths, strict=True))]
        for scenario in found:
            lines.append(scenario["name"])
            for name, row in scenario["contenders"].items():
                cells = [number(row.get(figure)) for figure in figures]
                line = f"  {name:<28}" + "".join(f"{c:>{w + 2}}" for c, w in zip(cells, widths, strict=True))
                lines.append(f"{line}  {remark(row)}".rstrip())
    lines += ["", *footnotes(report), "", *map(str, bar.heights(report))]
    return "\n".join(lines)


def facts(report: Mapping[str, Any]) -> list[str]:
    """The machine and the build, in words."""
    machine, python = report["machine"], report["python"]
    kind = "virtual " if machine["virtual"] else ""
    return [
        f"{machine['processor']} ({kind}machine, {machine['cores']} cores, {machine['memory_gb']} GB)",
        f"Linux {machine['kernel']}",
        f"Python {python['version']} ({python['build']})",
        *(f"{name} {version}" for name, version in {**python["libraries"], **report["versions"]}.items()),
    ]


def remark(row: Mapping[str, Any]) -> str:
    """What a reader must know about a row."""
    said = []
    if row.get("failures"):
        said.append(f"{row['failures']} failures")
    if row.get("disturbed"):
        said.append("disturbed")
    elif row.get("runs", 0) > row.get("calm_runs", 0):
        said.append(f"{row['runs'] - row['calm_runs']} of {row['runs']} runs left out: disturbed")
    return ", ".join(said)


def footnotes(report: Mapping[str, Any]) -> list[str]:
    """How the figures were taken."""
    lines = [
        f"Medians of {report['rounds']} interleaved rounds of {report['seconds']:g} s; ratios within the round. One "
        "core for who is measured, another for the load and the mock.",
        "A run is disturbed when others took over 15 % of a core: its times do not count, its processor time does. "
        "A row that says disturbed had fewer than two calm runs, so that its times are of little worth.",
    ]
    lines += [f"Left out: {name}: {why}" for name, why in report["left_out"].items()]
    if speed := report.get("tokens"):
        lines.append(
            f"Tokens/s of {speed['model']}: its worker alone {speed['worker_tokens_per_second']:.1f}, through the "
            f"gateway {speed['gateway_tokens_per_second']:.1f} (ratio {speed['ratio']:.3f}); first token "
            f"{speed['worker_first_token_ms']:.0f} ms and {speed['gateway_first_token_ms']:.0f} ms."
        )
        crowd = speed["crowd"]
        lines.append(
            f"{crowd['streams']} embedded streams at once: {crowd['finished']} finished, {crowd['begun_out_of_order']} "
            f"began before an earlier one, fastest to slowest {crowd['fastest_to_slowest']:.2f}."
        )
    return lines


def number(value: float | None) -> str:
    """As many digits as mean something."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")


def html(report: Mapping[str, Any]) -> str:
    """One file with everything."""
    parts = [charts.paragraph(fact) for fact in (", ".join(facts(report)), *footnotes(report))]
    for group, (title, figures) in GROUPS.items():
        found = [scenario for scenario in report["scenarios"] if scenario["group"] == group]
        if not found:
            continue
        parts.append(f"<h2>{escape(title)}</h2>")
        for scenario in found:
            parts += [plot(scenario, PLOTTED[group]), _table(scenario, figures)]
    parts.append("<h2>Held against</h2>")
    parts += [charts.paragraph(str(height)) for height in bar.heights(report)]
    return charts.page("modelport: what a request costs", parts)


def plot(scenario: Mapping[str, Any], figure: str) -> str:
    """One scenario's bars."""
    rows = [
        charts.Bar(name, row[figure], f"{number(row[figure])} {WORDS[figure]}", name == OURS)
        for name, row in scenario["contenders"].items()
        if row.get(figure) is not None and (row[figure] > 0 or name == FLOOR)
    ]
    return charts.bars(scenario["name"], rows)


def _table(scenario: Mapping[str, Any], figures: Sequence[str]) -> str:
    rows: Iterable[tuple[str, Mapping[str, Any]]] = scenario["contenders"].items()
    cells = [[name, *(number(row.get(figure)) for figure in figures), remark(row)] for name, row in rows]
    return charts.table(["", *(WORDS[figure] for figure in figures), ""], cells)
