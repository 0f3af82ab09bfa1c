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
    drawn = fresh_ids.alphanumeric("cmpl-", 29)
    names = {drawn.next() for _ in range(1000)}
    assert len(names) == 1000
    assert all(re.fullmatch("cmpl-[A-Za-z0-9]{29}", name) for name in names)
    assert re.fullmatch("[0-9a-f]{32}", fresh_ids.hexadecimal(32).next())


def test_every_letter_and_digit_is_used() -> None:
    beginnings = [fresh_ids.alphanumeric("", 212).next()[:200] for _ in range(50)]
    assert len(set("".join(beginnings))) == 62
    assert len(set(fresh_ids.hexadecimal(1000).next())) == 16


def test_a_forked_process_begins_anew() -> None:
    drawn = fresh_ids.hexadecimal(32)
    drawn.next()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, f"{fresh_ids.uuid()} {drawn.next()}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        uuid, name = pipe.read().split()
    assert uuid[:23] != fresh_ids.uuid()[:23]
    assert name[:20] != drawn.next()[:20]


def test_threads_share_no_id() -> None:
    with ThreadPoolExecutor(8) as threads:
        for made in (fresh_ids.uuid, fresh_ids.alphanumeric("", 20).next):
            found = list(threads.map(lambda _, made=made: [made() for _ in range(500)], range(8)))
            assert len({text for some in found for text in some}) == 4000
