"""What a record keeps of a content filter's annotations."""

from __future__ import annotations

from modelport.core.events import Annotation
from modelport.gateway.verdicts import FoundCategories


def test_categories_are_kept_with_their_worst_severity_and_nothing_that_is_safe() -> None:
    found = FoundCategories()
    assert str(found) == ""
    found.note(Annotation({"hate": {"filtered": False, "severity": "low"}, "jailbreak": {"detected": True}}))
    found.note(Annotation({"hate": {"filtered": False, "severity": "safe"}}, 0))
    found.note(Annotation({"violence": {"filtered": False, "severity": "low"}}, 0))
    found.note(Annotation({"violence": {"filtered": True, "severity": "high"}}, 1))
    found.note(Annotation({"custom_blocklists": {"filtered": True, "details": [{"id": "house", "filtered": True}]}}, 1))
    found.note(Annotation({"error": {"code": "content_filter_error"}, "odd": "text"}, 0))
    assert str(found) == (
        "prompt.hate=low prompt.jailbreak completion.violence=high! completion.custom_blocklists! completion.error"
    )
