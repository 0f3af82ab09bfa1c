"""Records of before there were prices."""

from __future__ import annotations

import msgspec

from modelport.core.usage import Pricing, UsageRecord
from modelport.stores.journal.old_lines import USAGE_DECODER

OLD = b"""{"id":"c","started_at":1700000000.5,"principal":"k","key_id":"k/key1","surface":"openai_v1",
"operation":"chat_completions","streamed":true,"requested_model":"m","deployment":"m","answered_model":"m",
"target":"p/m","status":200,"ending":"completed","error_code":null,
"usage":{"input":3,"cached_input":0,"output":5,"reasoning":0,"audio_input":0,"audio_output":0,"image":0},
"usage_source":"reported","reserved_tokens":40,"first_event_seconds":0.1,"duration_seconds":0.2,
"client_request_id":null,"snapshot":"s"}"""


def test_a_line_of_an_older_version_is_read_and_is_unpriced() -> None:
    record = USAGE_DECODER.decode(OLD)
    assert (record.usage.total, record.usage.cache_write) == (8, 0)
    assert (record.cost, record.currency, record.price_version, record.project, record.provider) == (None,) * 5
    assert record.pricing == Pricing.UNPRICED


def test_a_cost_goes_through_the_journal_with_every_digit() -> None:
    record = msgspec.structs.replace(USAGE_DECODER.decode(OLD), cost="0.000000000000000001", pricing=Pricing.PRICED)
    again = msgspec.json.decode(msgspec.json.encode(record), type=UsageRecord)
    assert (again.cost, again.pricing) == ("0.000000000000000001", "priced")
