"""Which deployment a call means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelport.core.catalog import Deployment, Model, ModelProfile, Snapshot, Target
from modelport.core.errors import DeploymentNotFound, ModelNotNamed, OperationNotSupported, RouteNotFound
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.roles import Grant, Role
from modelport.gateway.call import Selector
from modelport.gateway.resolve import requested_model, resolve

CHAT = Operation.CHAT_COMPLETIONS


def deployment(name: str, *operations: Operation) -> Deployment:
    profile = ModelProfile(family="any", operations=frozenset(operations or (CHAT,)))
    return Deployment(name=name, model=Model("Custom", name), targets=(Target("p", "m"),), profile=profile)


ALL = {d.name.lower(): d for d in (deployment("Large"), deployment("small"), deployment("Embed", Operation.EMBEDDINGS))}
WITH_DEFAULT = Snapshot(id="s", deployments=ALL, default="small")
WITHOUT = Snapshot(id="s", deployments=ALL)


ANYONE = Principal(name="p", key_id="k", grants=(Grant(Role.INFERENCE_USER),))
GUEST = Principal(name="g", key_id="k", grants=(Grant(Role.INFERENCE_USER, deployments=("l*", "emb??")),))


def name_of(selector: Selector, model: str | None, snapshot: Snapshot = WITH_DEFAULT) -> str:
    found = resolve(selector, model, CHAT, snapshot, ANYONE)
    assert isinstance(found, Deployment), found
    return found.name


def error_of(
    selector: Selector,
    model: str | None,
    snapshot: Snapshot,
    operation: Operation = CHAT,
    principal: Principal = ANYONE,
) -> Exception:
    found = resolve(selector, model, operation, snapshot, principal)
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


@pytest.mark.parametrize("written", ["small", "SMALL"])
@pytest.mark.parametrize("operation", [CHAT, Operation.EMBEDDINGS])
def test_a_deployment_of_others_is_answered_as_none(written: str, operation: Operation) -> None:
    for selector in (Selector(), Selector(header=written), Selector(path=written, wrong_operation="404")):
        error = error_of(selector, written, WITH_DEFAULT, operation, GUEST)
        assert isinstance(error, DeploymentNotFound)
        absent = DeploymentNotFound(written, ("Embed", "Large"))
        assert (error.name, error.message) == (absent.name, absent.message)


def test_the_default_deployment_of_others_is_no_default() -> None:
    assert isinstance(error_of(Selector(), None, WITH_DEFAULT, principal=GUEST), ModelNotNamed)
    assert isinstance(error_of(Selector(body_selects=False), "large", WITH_DEFAULT, principal=GUEST), RouteNotFound)


def test_an_unknown_name_is_told_those_that_the_caller_may_use() -> None:
    error = error_of(Selector(), "larg", WITHOUT, principal=GUEST)
    assert isinstance(error, DeploymentNotFound)
    assert error.message.endswith(" Deployments that you may use: Embed, Large.")
    many = Snapshot(id="s", deployments={f"d{n:04}": deployment(f"d{n:04}") for n in range(2000)})
    listed = error_of(Selector(), "x", many)
    assert isinstance(listed, DeploymentNotFound)
    assert listed.message.endswith("d0018, d0019 and 1980 more.")
    none = error_of(Selector(), "x", Snapshot(id="s", deployments={}))
    assert isinstance(none, DeploymentNotFound)
    assert "you may use" not in none.message


def test_a_spillover_of_others_is_none() -> None:
    first, second = replace(deployment("Large"), spillover="Small"), deployment("small")
    snapshot = Snapshot(id="s", deployments={"large": first, "small": second})
    assert resolve(Selector(), "large", CHAT, snapshot, ANYONE) is first
    assert resolve(Selector(), "large", CHAT, snapshot, GUEST) == replace(first, spillover=None)
