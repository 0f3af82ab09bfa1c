from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from modelport.core.errors import ContentFiltered, InvalidParameters, Offence, UpstreamRefused
from modelport.core.redaction import MASK, Redactor

KEY = "sk-House9/qW+e7Zp=42tail"
SHORT = "pass9!"
REDACTOR = Redactor(
    [KEY, SHORT, "long secret with words"],
    ["http://inner.example:9000/v1", "inner.example:9000", "inner.example", "/run/models/house.sock", "vault"],
)


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        KEY.upper(),
        f"Bearer {KEY}",
        quote(KEY, safe=""),
        json.dumps(KEY)[1:-1].replace("/", "\\/"),
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        base64.urlsafe_b64encode(f"me:{KEY}".encode()).decode(),
        KEY[:14],
        KEY[-12:],
        "sk-Ho***************tail",
        "sk-House…tail",
        "sk-Ho....tail",
        "sk-House...",
        "****tail",
        "••••••tail",
    ],
)
def test_secret_is_taken_out_in_every_usual_form(form):
    shown = REDACTOR.secrets_out(f"Key '{form}' is refused.")
    assert MASK in shown
    for piece in (form, "House9", "qW+e7", "tail", "sk-H"):
        assert piece.lower() not in shown.lower(), shown
    assert shown.startswith("Key '")
    assert shown.endswith("' is refused.")


def test_short_secret_is_taken_out_as_a_word_and_not_inside_of_one():
    assert REDACTOR.secrets_out("got pass9!, want xpass9!") == f"got {MASK}, want xpass9!"


def test_text_that_was_cut_within_a_secret_ends_with_the_mask():
    assert REDACTOR.secrets_out(f"wrong key {KEY[:7]}") == f"wrong key {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "Wait... then ask again.",
        "**important** and 2 ** 3 = 8",
        "This model's maximum context length is 4096 tokens.",
        "Invalid value for 'messages[0].content': expected a string.",
        "https://docs.example/errors#42",
        "version 1.2.3 of the schema",
        "",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert REDACTOR.all_out(text) == text


@pytest.mark.parametrize(
    "place",
    [
        "http://inner.example:9000/v1",
        "INNER.example",
        "inner.example:9000",
        "10.1.2.3:8000",
        "192.168.7.7",
        "[::1]:8000",
        "localhost:8123",
        "/run/models/house.sock",
        "vault",
    ],
)
def test_address_is_taken_out(place):
    assert REDACTOR.all_out(f"cannot connect to {place}, sorry") == f"cannot connect to {MASK}, sorry"
    assert "refused" in REDACTOR.all_out(f"({place}) refused")


def test_every_part_of_an_error_is_cleaned():
    refused = UpstreamRefused(f"no {KEY}", code=f"bad_{KEY}", target=f"x.{KEY}")
    offences = InvalidParameters([Offence("t", ("body", KEY), f"is {KEY}", {"a": [KEY, 7], KEY: None})])
    filtered = ContentFiltered({"custom": {"detail": f"by {KEY} at inner.example"}})
    for error in (refused, offences, filtered):
        REDACTOR.clean(error)
    shown = f"{vars(refused)} {refused} {offences.offences} {offences.offences[0].input} {filtered.results}"
    assert "House9" not in shown
    assert "inner.example" not in shown
    assert offences.offences[0].input == {"a": [MASK, 7], MASK: None}
    assert refused.code == f"bad_{MASK}"


def test_without_secrets_nothing_changes():
    assert Redactor().all_out("plain words") == "plain words"


def test_it_shows_nothing_of_what_it_knows():
    assert "House" not in repr(REDACTOR)


def test_long_hostile_text_costs_time_by_its_length():
    for text in ("a" * 200_000, "eyJ-" * 50_000, "*" * 200_000, "a." * 100_000, "sk-" * 60_000, "1." * 100_000):
        REDACTOR.all_out(text)  # a square of the length would take minutes
