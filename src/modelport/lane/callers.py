"""Who is calling, and what of their requests has come before.

A caller is known by the head of a request, a body by what stands around its messages. The heads themselves, which hold
credentials, are kept as keyed hashes alone; of bodies nothing is kept but names and numbers of parameters.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from modelport.core.catalog import Snapshot
from modelport.core.excerpts import EXCERPT_CHARACTERS
from modelport.core.identity import Identified
from modelport.dialects.body import excess
from modelport.dialects.plain_chat import UNREADABLE, around_turns, decode_turns, encode_turns
from modelport.lane.standing import Ask, Standing, asking, made
from modelport.lane.ways import Ground, Way

KNOWN_HEADS: Final = 1024
KNOWN_MODELS: Final = 256
KNOWN_SHAPES: Final = 4
"""Of one caller. One whose bodies always differ in more than their messages is not learned from for ever."""

LEARNED_BYTES: Final = 64 * 1024
"""Of a longer body, finding its messages costs more than it saves."""


class Shape:
    """A body with a place where its messages are. These are read each time, and written anew for the target."""

    __slots__ = ("_after", "_before", "_completion", "_sent_after", "_sent_before", "_standing", "_turns_begin")

    def __init__(
        self, around: tuple[bytes, bytes], sent_around: tuple[bytes, bytes], standing: Standing, completion: int | None
    ) -> None:
        """What stands around the messages of the caller's body and of the target's."""
        self._before, self._after = around
        self._sent_before, self._sent_after = sent_around
        self._turns_begin = len(self._before)
        self._standing = standing
        self._completion = completion

    def read(self, body: bytes) -> Ask | None:
        """What such a body asks; None: it differs elsewhere, too, or its messages are not plain."""
        if not body.startswith(self._before) or not body.endswith(self._after):
            return None
        # Both ends are whole tokens of one object, so what is between them is a value if it is one on its own.
        written = body[self._turns_begin : len(body) - len(self._after)]
        try:
            turns = decode_turns(written)
        except UNREADABLE:
            return None
        sent = self._sent_before + encode_turns(turns) + self._sent_after
        return self._standing, len(turns), self._completion, sent


class Caller:
    """Requests with one decisive head: what is known of each model that they have named."""

    __slots__ = ("_by_model", "_containers", "_lane", "_shapes", "_way", "snapshot")

    def __init__(self, lane: Ground, way: Way, snapshot: Snapshot) -> None:
        self._lane = lane
        self._way = way
        self._by_model: dict[str | None, Standing | None] = {}
        self._shapes: list[Shape] = []
        self._containers = lane.options.limits.json_containers
        self.snapshot = snapshot

    def read(self, body: bytes, decisive: Sequence[bytes]) -> Ask | None:
        """What this body asks; None: such a call takes the general way."""
        if len(body) > self._containers and excess(body, self._containers) is not None:
            return None
        for shape in self._shapes:
            ask = shape.read(body)
            if ask is not None:
                return ask
        assert self._way.plain is not None
        asked = self._way.plain(body)
        standing = self.standing(asked.model, decisive) if asked is not None else None
        if asked is None or standing is None or not standing.allows(asked):
            return None
        # The codec writes the target's names into what was read.
        ask = (standing, len(asked.messages), asked.max_tokens, standing.codec.encode(asked))
        if len(self._shapes) < KNOWN_SHAPES and len(body) <= LEARNED_BYTES:
            self._learn(body, ask)
        return ask

    def _learn(self, body: bytes, ask: Ask) -> None:
        standing, _, completion, sent = ask
        around, sent_around = around_turns(body), around_turns(sent)
        if around is not None and sent_around is not None:
            self._shapes.append(Shape(around, sent_around, standing, completion))

    def standing(self, model: str | None, decisive: Sequence[bytes]) -> Standing | None:
        """None: such a call takes the general way."""
        if model is not None and len(model) > EXCERPT_CHARACTERS:
            return None  # no deployment has such a name, and nothing of it is kept
        try:
            return self._by_model[model]
        except KeyError:
            if len(self._by_model) >= KNOWN_MODELS:
                self._by_model.clear()
            standing = self._by_model[model] = made(self._lane, self._way, decisive, model, self.snapshot)
            return standing


class Standings:
    """One per process: the callers that are known, for the snapshot that is current."""

    def __init__(self, lane: Ground) -> None:
        self._lane = lane
        self._salt = secrets.token_bytes(32)
        self._snapshot: Snapshot | None = None
        self._known: dict[bytes, Caller] = {}

    def caller(self, way: Way, decisive: Sequence[bytes]) -> Caller | None:
        """`decisive`: the values of surfaces.headers.DECISIVE, empty where absent. None: not known, or not without
        waiting: nothing of it is read or kept here."""
        snapshot = self._lane.pipeline.snapshot()
        if snapshot is not self._snapshot:
            self._snapshot, self._known = snapshot, {}
        key = blake2b(b"\n".join((way.url, *decisive)), digest_size=16, key=self._salt).digest()
        caller = self._known.get(key)
        if caller is None:
            if not isinstance(asking(self._lane, way, decisive, snapshot)[1], Identified):
                return None
            if len(self._known) >= KNOWN_HEADS:
                self._known.clear()
            caller = self._known[key] = Caller(self._lane, way, snapshot)
        return caller
