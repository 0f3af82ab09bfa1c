"""The filter `rules`: texts and regular expressions of blocklists, and swear words, found through what hides them."""

from modelport.safety.rules.filter import USES, open_filter

__all__ = ["USES", "open_filter"]
