"""A body whose shape is known is what a whole reading makes of it; or it is not known."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelport.dialects.plain_chat import AROUND_BYTES, UNREADABLE, around_turns, decode_plain, decode_turns, encoder
from modelport.lane.callers import KNOWN_SHAPES, Caller
from modelport.surfaces.options import Limits, Options

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": 'Grüße, "you"!\n'}]
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=20)},
        optional={"name": st.text(max_size=5)},
    ),
    min_size=1,
    max_size=3,
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["a", "messages", '"messages":[]', "[]"]),
        "temperature": st.floats(min_value=0, max_value=2),
        "max_tokens": st.integers(min_value=1, max_value=9),
        "stop": st.sampled_from(["x", ["messages"], [], '"messages"']),
        "seed": st.integers(min_value=0, max_value=9),
        "stream": st.just(False),
    },
)


class Standing:
    """Takes every body, and remembers for how many it was looked up."""

    def __init__(self) -> None:
        self.codec = SimpleNamespace(encode=encoder("served", None))
        self.looked_up = 0

    def allows(self, asked: object) -> bool:
        self.looked_up += 1
        return True


class Known(Caller):
    """A caller with one standing for every model."""

    def __init__(self) -> None:
        nothing: Any = SimpleNamespace(plain=decode_plain, options=Options())
        super().__init__(nothing, nothing, nothing)
        self.one = Standing()

    def standing(self, model: str | None, decisive: object) -> Any:
        return self.one


def written(turns: object, parameters: dict[str, object], *, first: bool, spaced: bool, is_ascii: bool) -> bytes:
    """A body, as clients write it."""
    fields = {"messages": turns, **parameters} if first else {**parameters, "messages": turns}
    separators = (", ", ": ") if spaced else (",", ":")
    return json.dumps(fields, separators=separators, ensure_ascii=is_ascii).encode(errors="replace")


def told(ask: Any) -> Any:
    """What an Ask says, without what means nothing in JSON."""
    return None if ask is None else (*ask[1:3], json.loads(ask[3]))


@given(TURNS, TURNS, PARAMETERS, st.booleans(), st.booleans(), st.booleans())
@example(MESSAGES, MESSAGES[:1], {}, False, True, False)
def test_a_known_shape_asks_what_a_whole_reading_finds(
    turns: object, others: object, parameters: dict[str, object], first: bool, spaced: bool, is_ascii: bool
) -> None:
    form: dict[str, bool] = {"first": first, "spaced": spaced, "is_ascii": is_ascii}
    caller, body = Known(), written(others, parameters, **form)
    caller.read(written(turns, parameters, **form), ())
    before = caller.one.looked_up
    ask = caller.read(body, ())
    assert told(ask) == told(Known().read(body, ()))
    if ask is not None and "messages" not in str(parameters):
        assert caller.one.looked_up == before


@given(TURNS, PARAMETERS, st.data())
def test_a_changed_body_is_read_as_if_nothing_was_known(turns: object, parameters: Any, data: st.DataObject) -> None:
    body = written(turns, parameters, first=False, spaced=True, is_ascii=False)
    caller = Known()
    caller.read(body, ())
    at = data.draw(st.integers(0, len(body) - 1))
    piece = data.draw(
        st.sampled_from([b"", b'"', b"}", b"]", b",", b"\\", b"{", b"[", b" ", b"\xff", b'],"seed":[', b"0"])
    )
    cut = data.draw(st.integers(0, 3))
    changed = body[:at] + piece + body[at + cut :]
    assert told(caller.read(changed, ())) == told(Known().read(changed, ()))


@pytest.mark.parametrize(
    "between",
    [
        b'[{"role":"user","content":"x"}],"max_tokens":9',
        b'[{"role":"user","content":"x"}],"messages":[{"role":"user","content":"y"}]',
        b'[{"role":"user","content":"x","tool_calls":[]}]',
        b'[{"role":"tool","content":"x"}]',
        b'[{"role":"user","content":[{"type":"text","text":"x"}]}]',
        b'[{"role":"user","content":"\xff"}]',
        b'[{"role":"user","content":"\\ud800"}]',
        b"[]",
        b"null",
        b"",
    ],
)
def test_what_is_between_must_be_one_value_of_plain_turns(between: bytes) -> None:
    caller, shape = Known(), b'{"model":"a","messages":%b}'
    caller.read(shape % b'[{"role":"user","content":"x"}]', ())
    assert told(caller.read(shape % between, ())) == told(Known().read(shape % between, ()))
    with pytest.raises(UNREADABLE):
        decode_turns(between)


def test_messages_are_written_anew_for_the_target() -> None:
    caller, shape = Known(), b'{"messages":%b, "max_tokens": 5}'
    caller.read(shape % b'[{"role":"user","content":"x"}]', ())
    ask = caller.read(shape % b'[ {"content": "\\u00fc\\/", "role": "user"} ]', ())
    assert ask is not None
    assert json.loads(ask[3]) == {
        "model": "served",
        "messages": [{"role": "user", "content": "ü/"}],
        "max_tokens": 5,
    }


def test_a_field_that_a_message_repeats_is_sent_once() -> None:
    caller, shape = Known(), b'{"messages":%b,"max_tokens":5}'
    caller.read(shape % b'[{"role":"user","content":"x"}]', ())
    ask = caller.read(shape % b'[{"role":"user","content":"first","content":"last"}]', ())
    assert ask is not None and b"first" not in ask[3] and b'"last"' in ask[3]


def test_no_more_than_so_many_shapes_are_kept() -> None:
    caller = Known()
    for _ in range(2):
        for seed in range(3 * KNOWN_SHAPES):
            ask = caller.read(written(MESSAGES, {"seed": seed}, first=False, spaced=True, is_ascii=True), ())
            assert ask is not None and json.loads(ask[3])["seed"] == seed
    assert caller.one.looked_up == 2 * 3 * KNOWN_SHAPES - KNOWN_SHAPES


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"secret"}],"messages":[{"role":"user","content":"x"}]}',
        b'{"m\\u0065ssages":[{"role":"user","content":"secret"}],"messages":[{"role":"user","content":"x"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"stop":"%b"}' % (b"x" * AROUND_BYTES),
    ],
)
def test_no_text_of_a_prompt_is_kept(body: bytes) -> None:
    around = around_turns(body)
    assert around is None or b"secret" not in b"".join(around)


def test_what_is_too_long_around_the_messages_is_not_kept() -> None:
    assert around_turns(b'{"messages":[{"role":"user","content":"x"}],"stop":"%b"}' % (b"x" * AROUND_BYTES)) is None


class Bounded(Caller):
    """A caller whose bodies may hold few lists and objects, with no deployment behind it."""

    def __init__(self) -> None:
        nothing: Any = SimpleNamespace(plain=decode_plain, options=Options(limits=Limits(json_containers=64)))
        super().__init__(nothing, nothing, nothing)


def test_a_body_that_holds_too_much_is_not_decoded() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}] * 64}).encode()
    assert Bounded().read(body, ()) is None


def test_nothing_is_kept_of_a_name_that_is_too_long() -> None:
    caller = Bounded()
    assert caller.standing("x" * 1000, ()) is None
    assert not caller._by_model


def test_nothing_is_learned_from_a_very_long_body() -> None:
    known = Known()
    known.read(json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]}).encode(), ())
    assert not known._shapes
    known.read(json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode(), ())
    assert known._shapes
