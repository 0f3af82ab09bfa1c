"""Which route a path leads to. Every route declares who may use it; one that does not, does not start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from msgspec import Struct

from modelport.core.roles import Permission
from modelport.surfaces.door import Door, Inference, Recorded, Route

Segments = tuple[str, ...]
REST: Final = "{*}"
"""The last segment of a route to a whole subtree, which is found whatever the case of its path."""


class UnusableRoute(Exception):
    """The table is wrong: said at start, not to a caller."""


class Match(Struct, frozen=True):
    """Where a path leads: its routes by method (none: nowhere), and the surface that answers either way."""

    routes: Mapping[str, Route]
    parameters: Mapping[str, str]
    door: Door

    @property
    def allow(self) -> tuple[str, ...]:
        """The methods that have a route, as `Allow` names them."""
        methods = sorted(self.routes)
        return tuple(["GET", "HEAD", *methods[1:]] if methods[:1] == ["GET"] else methods)

    def route(self, method: str) -> Route | None:
        """The route for this method; HEAD is answered as GET is."""
        return self.routes.get("GET" if method == "HEAD" else method)


class Router:
    """An exact table for fixed paths, and a short list for those with names in them."""

    def __init__(self, routes: Sequence[Route], fallbacks: Sequence[tuple[str, Door]]) -> None:
        """`fallbacks`: which surface says that there is nothing, by path prefix; the longest that fits. One is ""."""
        self._fixed: dict[Segments, dict[str, Route]] = {}
        self._patterns: dict[int, list[tuple[Segments, dict[str, Route]]]] = {}
        self._subtrees: dict[Segments, dict[str, Route]] = {}
        for route in routes:
            checked(route)
            self._add(route)
        by_length = sorted(fallbacks, key=lambda fallback: len(segments_of(fallback[0])), reverse=True)
        self._fallbacks = [(segments_of(prefix), door) for prefix, door in by_length]

    def match(self, path: str) -> Match:
        """For a path as sent."""
        segments = segments_of(path)
        fixed = self._fixed.get(segments)
        if fixed is not None:
            return Match(fixed, {}, next(iter(fixed.values())).door)
        for pattern, routes in self._patterns.get(len(segments), ()):
            parameters = fitted(pattern, segments)
            if parameters is not None:
                return Match(routes, parameters, next(iter(routes.values())).door)
        for prefix, routes in self._subtrees.items():
            if tuple(segment.lower() for segment in segments[: len(prefix)]) == prefix:
                return Match(routes, {}, next(iter(routes.values())).door)
        door = next(door for prefix, door in self._fallbacks if segments[: len(prefix)] == prefix)
        return Match({}, {}, door)

    def _add(self, route: Route) -> None:
        segments = segments_of(route.path)
        if segments[-1:] == (REST,):
            routes = self._subtrees.setdefault(tuple(segment.lower() for segment in segments[:-1]), {})
        elif "{" not in route.path:
            routes = self._fixed.setdefault(segments, {})
        else:
            patterns = self._patterns.setdefault(len(segments), [])
            known = next((routes for pattern, routes in patterns if pattern == segments), None)
            routes = {} if known is None else known
            if known is None:
                patterns.append((segments, routes))
        if route.method in routes:
            raise UnusableRoute(f"{route.method} {route.path} is there twice")
        routes[route.method] = route


def checked(route: Route) -> None:
    """Default-deny. Raises UnusableRoute for a route that says nothing, or the wrong thing, about who may use it."""
    if route.permission not in ("public", "endpoint", *Permission):
        raise UnusableRoute(f"{route.method} {route.path} declares no permission")
    if (route.permission == Permission.INFER) != isinstance(route.endpoint, Inference | Recorded):
        raise UnusableRoute(f"{route.method} {route.path}: exactly the calls that are recorded have permission 'infer'")


def segments_of(path: str) -> Segments:
    """The path's segments, decoded one by one (an encoded slash stays in its segment). A slash at the end does not
    count, nor does one doubled slash: clients join bases and routes with both."""
    segments = path.split("/")[1:]
    if segments and not segments[-1]:
        segments.pop()
    if "" in segments:
        segments.remove("")
    return tuple(unquote(segment) if "%" in segment else segment for segment in segments)


def fitted(pattern: Segments, segments: Segments) -> dict[str, str] | None:
    """What stands in the pattern's places, if it fits."""
    parameters: dict[str, str] = {}
    for expected, found in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            parameters[expected[1:-1]] = found
        elif expected != found:
            return None
    return parameters
