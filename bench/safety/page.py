"""docs/reference/safety-figures.md, from the figures alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.safety.frozen import HARMS
from bench.written import RESULTS

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "safety-figures.md"
SAFETY: Final = "safety.json"
MIX: Final = "mix.json"
NAMES: Final = {"hate": "hate", "sexual": "sexual", "violence": "violence", "self_harm": "self-harm"}

TEXT: Final = """\
# How well the local safety filters judge

Made by `python -m bench.safety` from frozen test sets that were committed before any training; do not edit. What they
are, and how the heads were trained: [decision 31](../decisions/0031-classifiers.md). Training {version}.

**Read this first.** The classifier knows subjects, not degrees: it tells a text about violence from one about cooking
far better than a brutal text from a mild one (see “AUC within”). It reads English; other languages pass it. It judges
pieces of at most 240 characters, so what is harmful only as a whole escapes it. The test texts of this project have the
same author as those of the training: real figures are lower. Who needs more asks a guard model or Azure AI Content
Safety instead: the filters `guard_model` and `azure_content_safety`.

## The filter `classifier`, at severity medium

{harms}

* “Severe found”: of model answers that people rated 0.75 or more, the part that reaches medium. The bar for blocking is
  60 %. “Harmful”: rated 0.5 or more.
* “Mild flagged”: of answers rated above 0 and below 0.5, the part that reaches medium all the same. Such a text is
  blocked, too. “Harmless answers”: rated 0, but given to questions about the harm; many are refusals.
* “Look-alikes”: {look_alikes_of} harmless texts that share words and subjects with a harm, flagged by this head; “of
  its own”: of those written for this harm. Any of the four heads flags {by_any} of them all, and {everyday}
  of prompts of every day.
* “Precision”: of all frozen texts that this head flags, the harmful ones. In your traffic harm is rarer: expect less.
* “AUC overall”: harmful answers against look-alikes and answers rated 0. “AUC within”: harmful answers against milder
  ones to questions about the same harm; 0.5 is chance.
* “Short prompts” and “fragments”: own sentences, and beginnings of web texts that a toxicity model rated.

{blocking}

## The filter `prompt_attack`

{attacks}

Guardian and the head block where one of them is nearly sure, or where both are less so; the head annotates from its
lower threshold on (“detected”). Posted jailbreaks are long role plays from the web; others of their kind trained the
head. bastioncorpus is a test alone.

## What it costs

{price}

A whole server, one call after the other with a prompt of 1 KB that the model repeats, so that both are judged:

{served}

The requests of [the mix](../guides/benchmarking.md#the-mix), one after the other, with `Microsoft.Nill` → with
`{policy}`. The text is new in each call and has 360 characters; the model repeats it, but where the form has a tool or
a schema; embeddings have no answer to judge. “The same text” was judged a moment ago (`python -m bench.mix`,
load average {mix_load}):

{mix}

The first two tables were measured on {machine}, with a load average of {load};
processor time of the gateway and the worker together, one text at a time. On a busy machine the same work takes more of
it. A text that was judged a moment ago costs nothing worth naming. A prompt with a text of more than 1,000,000
characters is refused (422); of embeddings it counts as an outage of the filter.
"""


def write_page() -> None:
    """From the results that are kept."""
    results, mix = (json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in (SAFETY, MIX))
    PAGE.write_text(page_text(results, mix), encoding="utf-8")


def page_text(results: Mapping[str, Any], mix: Mapping[str, Any]) -> str:
    """The whole page. `mix`: what `bench.mix` has measured."""
    ((policy, rows),) = mix["filtered"].items()
    quality, price, machine = results["quality"], results["price"], results["machine"]
    return TEXT.format(
        version=results["version"],
        harms=harms_table(quality["harms"]),
        look_alikes_of=quality["look_alikes_flagged_by_any"]["of"],
        by_any=percent(quality["look_alikes_flagged_by_any"]),
        everyday=percent(quality["everyday_flagged_by_any"]),
        blocking=blocking(quality),
        attacks=attacks_table(quality["attacks"]),
        price=price_table(price),
        served=served_table(results["served"]),
        machine=f"{machine['cores']} cores of {machine['processor']}",
        load=results["load_average"][0],
        policy=policy,
        mix=mix_table(rows),
        mix_load=mix["load_average"][0],
    )


def percent(figure: Mapping[str, Any]) -> str:
    """`12/34 (35 %)`."""
    return f"{figure['found']}/{figure['of']} ({100 * figure['share']:.1f} %)"


def harms_table(harms: Mapping[str, Any]) -> str:
    """A column for each harm."""
    rows = (
        ("severe found", "severe_found"),
        ("harmful found", "harmful_found"),
        ("mild flagged", "mild_flagged"),
        ("harmless answers flagged", "harmless_answers_flagged"),
        ("look-alikes flagged", "look_alikes_flagged"),
        ("look-alikes of its own flagged", "own_look_alikes_flagged"),
        ("short prompts found", "own_prompts_found"),
        ("fragments found", "fragments_found"),
        ("precision", "precision"),
        ("AUC overall", "auc_overall"),
        ("AUC within", "auc_within"),
        ("rank correlation with people", "rank_correlation_with_humans"),
    )
    lines = ["| | " + " | ".join(NAMES[harm] for harm in HARMS) + " |", "|---|" + "---|" * len(HARMS)]
    for title, key in rows:
        cells = [harms[harm].get(key) for harm in HARMS]
        written = [
            percent(cell) if isinstance(cell, Mapping) else "–" if cell is None else f"{cell:.2f}" for cell in cells
        ]
        lines.append(f"| {title} | " + " | ".join(written) + " |")
    return "\n".join(lines)


def blocking(quality: Mapping[str, Any]) -> str:
    """Which categories the built-in policies block by."""
    chosen = [NAMES[harm] for harm in quality["blocking"]]
    weak = [NAMES[harm] for harm in HARMS if harm not in quality["blocking"]]
    said = (
        f"The built-in policies block by {', '.join(chosen) or 'none of them'}. Together these flag "
        f"{percent(quality['look_alikes_blocked'])} of the look-alikes; the bar is 2 %."
    )
    if not weak:
        return said
    title = ", ".join(weak).capitalize()
    return (
        f"{said}\n\n**{title}: annotated, not blocked** by the built-in policies, since a bar would be missed.\n"
        "A policy of your own may block by it all the same."
    )


def attacks_table(attacks: Mapping[str, Any]) -> str:
    """Attacks above, harmless texts below."""
    rows = (
        ("bastioncorpus: attacks", "bastioncorpus_attacks"),
        ("posted jailbreaks", "posted_jailbreaks"),
        ("bastioncorpus: harmless traps", "bastioncorpus_traps"),
        ("look-alikes of prompt attacks", "look_alikes"),
        ("look-alikes of the four harms", "other_look_alikes"),
        ("prompts of every day", "everyday"),
    )
    lines = ["| | blocked | detected |", "|---|---|---|"]
    lines += [
        f"| {name} | {percent(attacks[key]['blocked'])} | {percent(attacks[key]['detected'])} |" for name, key in rows
    ]
    return "\n".join([*lines, "", f"AUC of the head on bastioncorpus: {attacks['head_auc_on_bastioncorpus']:.2f}."])


def price_table(price: Mapping[str, Any]) -> str:
    """Processor time, and how long a call waits."""
    fresh, again, streamed = price["prompt_1kb"], price["prompt_1kb_again"], price["streamed_100_tokens"]
    bar, wait = price["bar_cpu_ms_prompt_1kb"], streamed["latency_ms_of_a_sentence"]
    return "\n".join(
        [
            "| | processor time, ms | added wait, ms |",
            "|---|---|---|",
            f"| prompt of 1 KB, both filters (bar: {bar:.0f} ms) | {fresh['cpu_ms']} | {fresh['latency_ms']} |",
            f"| the same prompt again | {again['cpu_ms']} | {again['latency_ms']} |",
            f"| 100 streamed tokens, sentence by sentence | {streamed['cpu_ms']} | {wait} a sentence |",
        ]
    )


def served_table(served: Mapping[str, Any]) -> str:
    """Each policy, whole and streamed."""
    lines = ["| | processor time, ms | first byte after, ms | end after, ms |", "|---|---|---|---|"]
    for kind, policies in served.items():
        for policy, row in policies.items():
            name = {"nill": "`Microsoft.Nill`", "default": "as `Microsoft.DefaultV2`, annotating"}[policy]
            lines.append(f"| {kind}, {name} | {row['cpu_ms']} | {row['first_byte_ms']} | {row['whole_ms']} |")
    return "\n".join(lines)


def mix_table(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Each form, without and with the policy."""
    figures = ("cpu_ms", "first_byte_ms", "whole_ms")
    lines = ["| | processor time, ms | first byte after, ms | end after, ms |", "|---|---|---|---|"]
    for name, found in rows.items():
        cells = [f"{found['without'][figure]:.1f} → {found['filtered'][figure]:.1f}" for figure in figures]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
