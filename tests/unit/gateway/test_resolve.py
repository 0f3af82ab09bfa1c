"""Which deployment a call means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.catalog import Deployment, Model, ModelProfile, Snapshot, Target
from modelport.core.errors import DeploymentNotFound, ModelNotNamed, OperationNotSupported, RouteNotFound
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.gateway.call import Selector
from modelport.gateway.resolve import requested_model, resolve

CHAT = Operation.CHAT_COMPLETIONS


def deployment(name: str, *operations: Operation) -> Deployment:
    profile = ModelProfile(family="any", operations=frozenset(operations or (CHAT,)))
    return Deployment(name=name, model=Model("Custom", name), targets=(Target("p", "m"),), profile=profile)


ALL = {d.name.lower(): d for d in (deployment("Large"), deployment("small"), deployment("Embed", Operation.EMBEDDINGS))}
WITH_DEFAULT = Snapshot(id="s", deployments=ALL, default="small")
WITHOUT = Snapshot(id="s", deployments=ALL)


def name_of(selector: Selector, model: str | None, snapshot: Snapshot = WITH_DEFAULT) -> str:
    found = resolve(selector, model, CHAT, snapshot)
    assert isinstance(found, Deployment), found
    return found.name


def error_of(selector: Selector, model: str | None, snapshot: Snapshot, operation: Operation = CHAT) -> Exception:
    found = resolve(selector, model, operation, snapshot)
    assert isinstance(found, Refusal), found
    return found.error


def test_the_path_wins_over_the_header_and_the_header_over_the_body() -> None:
    assert name_of(Selector(path="large", header="small"), "embed") == "Large"
    assert name_of(Selector(header="large"), "embed") == "Large"
    assert name_of(Selector(), "large") == "Large"


def test_a_body_that_does_not_select_is_ignored() -> None:
    assert name_of(Selector(body_selects=False), "large") == "small"
    assert name_of(Selector(path="large", body_selects=False), "no such") == "Large"


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_the_case_of_a_name_means_nothing(upper: list[bool]) -> None:
    written = "".join(char.upper() if up else char for char, up in zip("large", upper, strict=True))
    assert name_of(Selector(), written) == "Large"


def test_nothing_named_is_the_default_deployment_where_there_is_one() -> None:
    for nothing in (None, ""):
        assert name_of(Selector(), nothing) == "small"
        assert isinstance(error_of(Selector(), nothing, WITHOUT), ModelNotNamed)


def test_a_root_form_without_a_default_has_nothing_to_answer_with() -> None:
    assert isinstance(error_of(Selector(body_selects=False), "large", WITHOUT), RouteNotFound)


@pytest.mark.parametrize("snapshot", [WITH_DEFAULT, WITHOUT])
def test_an_unknown_name_is_never_the_default(snapshot: Snapshot) -> None:
    for selector in (Selector(), Selector(header="no such"), Selector(path="no such")):
        error = error_of(selector, "no such", snapshot)
        assert isinstance(error, DeploymentNotFound)
        assert error.name == "no such"


def test_a_model_that_does_something_else_is_told_by_surface() -> None:
    named = error_of(Selector(), "large", WITHOUT, Operation.EMBEDDINGS)
    assert isinstance(named, OperationNotSupported)
    assert named.message.startswith("The embeddings operation does not work with the specified model, Large. ")
    root = Selector(path="large", wrong_operation="404")
    assert isinstance(error_of(root, None, WITHOUT, Operation.EMBEDDINGS), RouteNotFound)


def test_the_name_that_decides_is_kept_as_it_was_written() -> None:
    assert requested_model(Selector(), "LaRGe") == "LaRGe"
    assert requested_model(Selector(body_selects=False), "large") is None
    assert requested_model(Selector(header="H"), "large") == "H"
