"""The filter `rules`: texts and regular expressions of blocklists, and swear words, found through what hides them."""

from modelport.safety.rules.filter import open_filter

__all__ = ["open_filter"]
