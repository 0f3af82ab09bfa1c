"""Texts of blocklists, all found in one pass, through what hides them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from modelport.safety.rules.matching import CERTAIN, Hit, Literal, Origin, RuleId, is_joined, is_verbatim, score_of
from modelport.safety.rules.respelled import Respelled
from modelport.safety.rules.skeleton import Skeleton
from modelport.safety.rules.tries import WORK_OF_A_STEP, automaton_of, opening_of
from modelport.safety.slices import Steps


class LiteralSet:
    """Any number of texts. Immutable once it is made."""

    def __init__(self, literals: Sequence[Literal]) -> None:
        kept = [literal for literal in literals if literal.folded]
        self._verbatim = automaton_of((literal.folded, literal) for literal in kept if is_verbatim(literal))
        self._disguised = automaton_of(
            (Skeleton(literal.letters).text, literal) for literal in kept if not is_verbatim(literal)
        )
        self._respelled = Respelled([literal for literal in kept if not is_verbatim(literal)])
        self._longest = max((len(literal.folded) for literal in kept), default=0)

    def find(
        self,
        folded: str,
        readings: Sequence[Skeleton],
        origin: Origin = None,
        *,
        start: int = 0,
        is_whole: bool = True,
        known: Container[RuleId] = (),
    ) -> Iterator[Hit | None]:
        """The first match of each rule but the `known` ones, from `start` on, in each reading of a folded text; None
        where the search may pause. In a text that is not whole, a match at its end waits for what follows."""
        last = len(folded) - (0 if is_whole else 1)
        work = 0
        if self._disguised is not None:
            for skeleton in readings:
                found: set[RuleId] = set()
                for end, literals in self._disguised.iter(skeleton.text):
                    if work > WORK_OF_A_STEP:
                        work = 0
                        yield None
                    work += 10
                    positions = skeleton.positions
                    if positions[end] >= last or is_joined(folded, positions[end] + 1):
                        continue
                    for literal in literals:
                        if literal.rule in known or literal.rule in found:
                            continue
                        work += 10 + len(literal.letters)
                        at = positions[end + 1 - len(literal.letters) : end + 1]
                        if at[0] < start:
                            continue
                        score = score_of(literal, folded, at, origin)
                        if score is not None:
                            found.add(literal.rule)
                            yield Hit(literal.rule, at[0], at[-1] + 1, score)
            yield from self._respelled.find(folded, readings[0], origin, range(start, last), known)
        if self._verbatim is not None:
            for end, literals in self._verbatim.iter(folded):
                if work > WORK_OF_A_STEP:
                    work = 0
                    yield None
                for literal in literals:
                    work += 10
                    at = end + 1 - len(literal.folded)
                    if start <= at and end < last and not is_joined(folded, at) and not is_joined(folded, end + 1):
                        yield Hit(literal.rule, at, end + 1, CERTAIN)

    def opening(self, folded: str, readings: Sequence[Skeleton]) -> Steps[int]:
        """From where on a folded text that goes on may be the beginning of a match; its length if from nowhere."""
        found = len(folded)
        if self._disguised is not None:
            for skeleton in readings:
                first = max(0, len(skeleton.text) - self._longest)
                text, positions = skeleton.text[first:], skeleton.positions[first:]
                found = min(found, (yield from opening_of(self._disguised, text, positions, folded)))
            found = min(found, (yield from self._respelled.opening(folded, readings[0])))
        if self._verbatim is not None:
            first = max(0, len(folded) - self._longest)
            places = range(first, len(folded))
            found = min(found, (yield from opening_of(self._verbatim, folded[first:], places, folded)))
        return found
