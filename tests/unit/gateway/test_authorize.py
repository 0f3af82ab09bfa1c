"""What a key's scope covers."""

from __future__ import annotations

from collections.abc import Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.catalog import Deployment, Model, Target
from modelport.core.errors import PermissionDenied
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.roles import Grant, Role
from modelport.gateway.authorize import authorize, may_use

ANY = Deployment(name="a", model=Model("Custom", "m"), targets=(Target("p", "m"),))


def outcome(operations: Set[Operation] | None, asked: Operation) -> bool:
    """Whether it is allowed."""
    scope = frozenset(operations) if operations is not None else None
    who = Principal(name="p", key_id="k", grants=(Grant(Role.INFERENCE_USER, operations=scope),))
    refusal = authorize(who, ANY, asked)
    if refusal is None:
        return True
    assert isinstance(refusal, Refusal)
    assert isinstance(refusal.error, PermissionDenied)
    assert refusal.error.message == "Principal does not have access to API/Operation."
    return False


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        (("*",), "Anything", True),
        (("mistral-*",), "Mistral-Large", True),
        (("mistral-*",), "my-mistral-large", False),
        (("gpt-4o",), "GPT-4o", True),
        (("gpt-4o",), "gpt-4o-mini", False),
        (("a", "b-?"), "B-1", True),
        (("a", "b-?"), "b-10", False),
        ((), "a", False),
    ],
)
def test_a_scope_names_deployments_by_pattern(patterns: tuple[str, ...], name: str, allowed: bool) -> None:
    who = Principal(name="p", key_id="k", grants=(Grant(Role.INFERENCE_USER, deployments=patterns),))
    deployment = Deployment(name=name, model=Model("Custom", "m"), targets=(Target("p", "m"),))
    assert may_use(who, deployment) is allowed


@given(st.sets(st.sampled_from(list(Operation))), st.sampled_from(list(Operation)))
def test_a_scope_of_operations_allows_those_and_no_other(scope: set[Operation], asked: Operation) -> None:
    assert outcome(scope, asked) is (asked in scope)


def test_no_operations_named_are_all() -> None:
    assert all(outcome(None, operation) for operation in Operation)
