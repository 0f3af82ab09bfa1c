"""Extras that have a meaning: types, bounds, and how they go together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.config.profiles import load_profiles
from modelport.core.catalog import UNKNOWN_PROFILE
from modelport.core.content import Message
from modelport.core.errors import Offence
from modelport.core.requests import ChatRequest
from modelport.gateway.extras import RULES, extra_offences

LLAMA = load_profiles().of("Llama-3.3-70B-Instruct")
HELLO = (Message(role="user", content="Hello"),)


def wrong(extra: dict[str, Any], **fields: Any) -> list[str]:
    """The names of the extras that are refused."""
    request = ChatRequest(messages=HELLO, extra=extra, **fields)
    return [offence.parameter for offence in extra_offences(request, LLAMA, "m")]


@pytest.mark.parametrize(
    "extra",
    [
        {"n": 1},
        {"n": 128},
        {"n": 2, "best_of": 3},
        {"best_of": 2},
        {"logprobs": True},
        {"logprobs": 5},
        {"logprobs": 0},
        {"logprobs": True, "top_logprobs": 20},
        {"ignore_eos": True, "skip_special_tokens": False},
        {"stop_token_ids": [0, 7]},
        {"stop_token_ids": []},
        {"logit_bias": {"50256": -100}},
        {"n": None, "best_of": None, "use_beam_search": None},
        {"unheard_of": {"anything": ["goes"]}},
    ],
)
def test_documented_extras_pass(extra: dict[str, Any]) -> None:
    assert wrong(extra) == []


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        ({"n": 0}, ["n"]),
        ({"n": 129}, ["n"]),
        ({"n": "2"}, ["n"]),
        ({"n": True}, ["n"]),
        ({"n": 2.0}, ["n"]),
        ({"best_of": 10**30}, ["best_of"]),
        ({"logprobs": -1}, ["logprobs"]),
        ({"logprobs": 21}, ["logprobs"]),
        ({"logprobs": "true"}, ["logprobs"]),
        ({"top_logprobs": 3}, ["top_logprobs"]),
        ({"ignore_eos": 1}, ["ignore_eos"]),
        ({"use_beam_search": "yes"}, ["use_beam_search"]),
        ({"stop_token_ids": 7}, ["stop_token_ids"]),
        ({"stop_token_ids": [-1]}, ["stop_token_ids"]),
        ({"stop_token_ids": [True]}, ["stop_token_ids"]),
        ({"stop_token_ids": [1] * 1025}, ["stop_token_ids"]),
        ({"logit_bias": {"a": 1}}, ["logit_bias"]),
        ({"logit_bias": {"1": 101}}, ["logit_bias"]),
        ({"logit_bias": {"1": float("inf")}}, ["logit_bias"]),
        ({"logit_bias": []}, ["logit_bias"]),
        ({"n": 0, "logprobs": "a", "ignore_eos": 3}, ["n", "logprobs", "ignore_eos"]),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(extra: dict[str, Any], names: list[str]) -> None:
    assert wrong(extra) == names


@pytest.mark.parametrize(("n", "best_of"), [(None, 1), (2, 2), (3, 2), (1, 1)])
def test_best_of_must_make_more_than_it_shows(n: int | None, best_of: int) -> None:
    assert wrong({"n": n, "best_of": best_of}) == ["best_of"]


def test_best_of_cannot_be_streamed() -> None:
    assert wrong({"best_of": 2}, stream=True) == ["best_of"]


def test_beam_search_needs_a_cold_wide_whole_search() -> None:
    assert wrong({"use_beam_search": True, "best_of": 2}, temperature=0.0) == []
    assert wrong({"use_beam_search": True, "best_of": 2}) == ["use_beam_search"]
    assert wrong({"use_beam_search": True, "best_of": 2}, temperature=0.7) == ["use_beam_search"]
    assert wrong({"use_beam_search": True}, temperature=0.0) == ["use_beam_search"]
    streamed = wrong({"use_beam_search": True, "best_of": 2}, temperature=0.0, stream=True)
    assert set(streamed) == {"best_of", "use_beam_search"}
    assert wrong({"use_beam_search": False}, temperature=0.7, stream=True) == []


@pytest.mark.parametrize("name", ["logprobs", "top_logprobs", "logit_bias"])
def test_an_extra_known_not_to_work_is_refused(name: str) -> None:
    profile = load_profiles().of("o3-mini")
    (offence,) = extra_offences(ChatRequest(messages=HELLO, extra={name: 1}), profile, "o3-mini")
    assert (offence.type, offence.loc) == ("parameter_not_supported", ("body", name))


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*RULES, "other"]), VALUE, max_size=5))
def test_any_value_is_judged_and_told_back(extra: dict[str, Any]) -> None:
    found = extra_offences(ChatRequest(messages=HELLO, extra=extra), UNKNOWN_PROFILE, "m")
    for offence in found:
        assert isinstance(offence, Offence)
        assert offence.loc[0] == "body"
        assert offence.loc[1] in extra
        assert offence.input is extra[offence.loc[1]] or offence.input is True
