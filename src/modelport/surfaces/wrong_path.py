"""What a caller hears whose path leads nowhere: the route that it meant, and the base URL that leads there.

A base URL of another server's habit (`/api/v1`), one that is doubled (`/v1/v1`) or a whole endpoint, and a misspelt
word all leave the words of the right path in their order, with others between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from modelport.core.errors import RouteNotFound
from modelport.surfaces.door import Route

MOST_SEGMENTS: Final = 16
LONGEST_WORD: Final = 32
LIKENESS: Final = 0.8
SHOWN_CHARACTERS: Final = 128
HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


class WrongPaths:
    """Made once from the routes that have a base."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [
            (route, words)
            for route in routes
            if route.base is not None
            for words in spellings(route.path.split("/")[1:])
        ]
        self._words = sorted({word for _, words in self._routes for word in words if not word.startswith("{")})

    def refusal(self, method: str, path: str, origin: str) -> RouteNotFound:
        """The 404 with the way out. `origin`: scheme and host as the caller wrote them, or nothing."""
        found = self.meant(method, path)
        told = f"Resource not found. No route has the path {shown(path)}"
        if found is None:
            return RouteNotFound(
                f"{told}. Base URLs are {origin}/v1 for OpenAI clients, {origin}/models for Azure AI Inference clients "
                f"and {origin or '/'} for Azure OpenAI clients."
            )
        method, meant, base = found
        return RouteNotFound(f"{told}; {method} {meant} is one. The base URL for it is {origin + base or '/'}.")

    def meant(self, method: str, path: str) -> tuple[str, str, str] | None:
        """Method and path of the route whose words stand in this path in their order, and its base. Of several, the
        one with the most words, then one that lacks none, then one for this method, then one that begins alike."""
        words = [self._spelled(word) for word in path.split("/") if word]
        if len(words) > MOST_SEGMENTS:
            return None
        best: tuple[tuple[int, bool, bool, bool], Route, dict[str, str]] | None = None
        for route, wanted in self._routes:
            filled = filled_in(wanted, words)
            if filled is None:
                continue
            is_whole = route.path.count("/") == len(wanted)
            rank = (len(wanted), is_whole, route.method == method, wanted[0] == words[0])
            if best is None or rank > best[0]:
                best = rank, route, filled
        if best is None:
            return None
        _, route, filled = best
        return route.method, replaced(route.path, filled), replaced(route.base or "", filled)

    def _spelled(self, word: str) -> str:
        """The word of a route that this one resembles, or itself."""
        if word in self._words or len(word) > LONGEST_WORD:
            return word
        return next(iter(get_close_matches(word.lower(), self._words, n=1, cutoff=LIKENESS)), word)


def spellings(words: Sequence[str]) -> list[Sequence[str]]:
    """The words of a route, and the same without the version, which is often left out."""
    return [words, [word for word in words if word != "v1"]] if "v1" in words else [words]


def filled_in(wanted: Sequence[str], words: Sequence[str]) -> dict[str, str] | None:
    """What stands in the places of a route whose words come in this order among others; None: they do not."""
    filled: dict[str, str] = {}
    rest = iter(words)
    for want in wanted:
        found = next((word for word in rest if want.startswith("{") or word == want), None)
        if found is None:
            return None
        if want.startswith("{"):
            filled[want] = shown(found)
    return filled


def replaced(path: str, filled: dict[str, str]) -> str:
    """The route's path with names in its places."""
    for place, name in filled.items():
        path = path.replace(place, name)
    return path


def shown(path: str) -> str:
    """A part of a path for a message or a log line."""
    return path if len(path) <= SHOWN_CHARACTERS else path[:SHOWN_CHARACTERS] + "…"


def origin_of(scheme: str, host: str | None) -> str:
    """Scheme and host as the caller wrote them; nothing where the host is none."""
    return f"{scheme}://{host}" if host is not None and HOST.fullmatch(host) else ""
