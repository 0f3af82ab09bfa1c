"""Ids: well formed, and never the same twice."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from modelport.dialects import fresh_ids


def test_ids_have_their_form_and_do_not_repeat() -> None:
    uuids = {fresh_ids.uuid() for _ in range(1000)}
    assert len(uuids) == 1000
    assert all(str(UUID(text)) == text and UUID(text).version == 4 for text in uuids)
    assert {text[19] for text in uuids} <= set("89ab")
    names = {fresh_ids.alphanumeric(29) for _ in range(1000)}
    assert len(names) == 1000
    assert all(re.fullmatch("[A-Za-z0-9]{29}", name) for name in names)
    assert re.fullmatch("[0-9a-f]{32}", fresh_ids.hexadecimal())


def test_every_letter_and_digit_is_used() -> None:
    assert len(set(fresh_ids.alphanumeric(10_000))) == 62


def test_a_forked_process_begins_anew() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, fresh_ids.uuid().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read()[:23] != fresh_ids.uuid()[:23]


def test_threads_share_no_id() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [fresh_ids.uuid() for _ in range(500)], range(8)))
    assert len({text for some in made for text in some}) == 4000
