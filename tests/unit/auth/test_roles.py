"""From the claims of a verified token to what it may do."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.auth.roles import assignee, has_group_overage, is_of_application, principal_of
from modelport.core.budgets import Budget
from modelport.core.catalog import Snapshot
from modelport.core.identity import AssigneeKind, ClaimRule
from modelport.core.operations import Operation
from modelport.core.roles import ALIASES, ROLE_IDS, Grant, Permission, Role, role_named, scope_fault

OURS, OTHER = "https://issuer.example", "https://other.example"
GROUP, OID, APP = (
    "6f1c3f3e-0000-4000-8000-00000000000a",
    "0a1b2c3d-0000-4000-8000-00000000000b",
    "99999999-0000-4000-8000-00000000000c",
)
CHAT = Grant(Role.INFERENCE_USER, ("team-*",), frozenset({Operation.CHAT_COMPLETIONS}), "research")


def snapshot(*assigned: tuple[AssigneeKind, str, str | None, Grant]) -> Snapshot:
    return Snapshot(
        id="s",
        deployments={},
        role_assignments={assignee(kind, value, issuer): (grant,) for kind, value, issuer, grant in assigned},
        project_budgets={"research": Budget("project:research", tokens=5)},
    )


def roles(claims: dict[str, Any], *rules: ClaimRule, known: Snapshot | None = None, issuer: str = OURS) -> list[Role]:
    return [grant.role for grant in principal_of(claims, issuer, rules, known or snapshot()).grants]


@pytest.mark.parametrize(
    ("claims", "claim", "value"),
    [
        ({"groups": [GROUP.upper(), "x"]}, "groups", GROUP),
        ({"roles": ["Reader"]}, "roles", "Reader"),
        ({"appid": APP}, "appid", APP),
        ({"scp": "models.read models.call"}, "scp", "models.call"),
        ({"realm_access": {"roles": ["caller"]}}, "realm_access.roles", "caller"),
        ({"https://x.example/roles": ["caller"]}, "https://x.example/roles", "caller"),
    ],
)
def test_a_rule_fits_a_claim_that_is_its_value_or_has_it(claims: dict[str, Any], claim: str, value: str) -> None:
    assert roles(claims, ClaimRule(claim, value, CHAT)) == [Role.INFERENCE_USER]


@pytest.mark.parametrize(
    ("claims", "claim", "value"),
    [
        ({}, "groups", GROUP),
        ({"groups": GROUP + "0"}, "groups", GROUP),
        ({"roles": ["reader"]}, "roles", "Reader"),
        ({"department": "a Admin b"}, "department", "Admin"),
        ({"groups": {"Admin": True}}, "groups", "Admin"),
        ({"groups": [["Admin"]]}, "groups", "Admin"),
        ({"groups": [True, 1, None]}, "groups", "True"),
        ({"realm_access": ["roles"]}, "realm_access.roles", "roles"),
    ],
)
def test_a_rule_fits_nothing_else(claims: dict[str, Any], claim: str, value: str) -> None:
    assert roles(claims, ClaimRule(claim, value, CHAT)) == []


def test_without_a_role_nothing_is_allowed() -> None:
    nobody = principal_of({"oid": OID}, OURS, (), snapshot())
    assert not any(nobody.may(permission) for permission in Permission)
    assert nobody.name == f"user:{OID}"


@pytest.mark.parametrize(
    ("kind", "value", "claims"),
    [
        ("user", OID.upper(), {"oid": OID}),
        ("user", "alice", {"sub": "alice"}),
        ("group", GROUP, {"sub": "alice", "groups": [GROUP]}),
        ("application", APP, {"appid": APP, "oid": OID, "sub": OID}),
        ("application", APP, {"azp": APP, "idtyp": "app"}),
        ("application", "robot", {"client_id": "robot", "sub": "robot"}),
    ],
)
def test_an_assignment_holds_for_tokens_of_its_issuer_alone(
    kind: AssigneeKind, value: str, claims: dict[str, Any]
) -> None:
    known = snapshot((kind, value, OURS, Grant(Role.USAGE_READER)))
    assert roles(claims, known=known) == [Role.USAGE_READER]
    assert roles(claims, known=known, issuer=OTHER) == []


@pytest.mark.parametrize(
    "claims",
    [
        {"appid": APP, "oid": OID, "sub": "pairwise", "scp": "user_impersonation"},
        {"azp": APP, "oid": OID, "idtyp": "user", "sub": OID},
        {"azp": APP, "sub": "alice", "scope": "openid"},
    ],
)
def test_a_user_who_signs_in_through_an_application_does_not_get_its_role(claims: dict[str, Any]) -> None:
    assert not is_of_application(claims)
    assert roles(claims, known=snapshot(("application", APP, OURS, CHAT))) == []


def test_a_subject_is_not_looked_for_where_there_is_an_object_id() -> None:
    """In Entra `sub` differs from application to application, and another user's `oid` could be written there."""
    assert roles({"oid": OID, "sub": "alice"}, known=snapshot(("user", "alice", OURS, CHAT))) == []


def test_a_key_of_the_same_name_gives_a_token_nothing() -> None:
    assert roles({"sub": "batch", "oid": "batch"}, known=snapshot(("key", "batch", None, CHAT))) == []


def test_grants_add_up_and_the_project_is_that_of_inference() -> None:
    reader = Grant(Role.USAGE_READER, project="other")
    who = principal_of(
        {"oid": OID, "groups": [GROUP]},
        OURS,
        [ClaimRule("groups", GROUP, reader), ClaimRule("groups", GROUP, CHAT), ClaimRule("oid", OID, CHAT)],
        snapshot(),
    )
    assert who.grants == (reader, CHAT)
    assert (who.project, [found.subject for found in who.budgets]) == ("research", ["project:research"])
    assert who.may(Permission.INFER, "Team-a", Operation.CHAT_COMPLETIONS)
    assert not who.may(Permission.INFER, "team-a", Operation.EMBEDDINGS)
    assert not who.may(Permission.INFER, "other", Operation.CHAT_COMPLETIONS)
    assert who.may(Permission.READ_USAGE)
    assert not who.may(Permission.READ_METRICS)


def test_two_grants_do_not_mix_their_scopes() -> None:
    embed = Grant(Role.INFERENCE_USER, ("embed",), frozenset({Operation.EMBEDDINGS}))
    who = principal_of({"oid": OID}, OURS, [ClaimRule("oid", OID, CHAT), ClaimRule("oid", OID, embed)], snapshot())
    assert who.may(Permission.INFER, "embed", Operation.EMBEDDINGS)
    assert not who.may(Permission.INFER, "embed", Operation.CHAT_COMPLETIONS)


def test_long_or_odd_subjects_do_not_reach_logs() -> None:
    names = {principal_of({"sub": text}, OURS, (), snapshot()).name for text in ("a\nb", "x" * 5000)}
    assert len(names) == 2
    assert all(name.startswith("user:sha256-") and len(name) < 100 for name in names)


def test_more_groups_than_a_token_holds_are_noticed() -> None:
    assert has_group_overage({"_claim_names": {"groups": "src1"}})
    assert has_group_overage({"hasgroups": True})
    assert not has_group_overage({"groups": []})


def test_azure_names_and_ids_of_roles_are_understood_and_no_other() -> None:
    assert role_named("Cognitive Services OpenAI User") is Role.INFERENCE_USER
    assert role_named("25FBC0A9-BD7C-42A3-AA1A-3B75D497EE68") is Role.DEPLOYMENT_CONTRIBUTOR
    assert {ALIASES[guid] for guid in ROLE_IDS.values()} == set(Role)
    assert role_named("Contributor") is None
    assert role_named("") is None


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.INFERENCE_USER])
def test_a_scope_that_would_not_count_is_found(role: Role) -> None:
    assert scope_fault(Grant(role, operations=frozenset({Operation.EMBEDDINGS}))) is not None
    is_of_deployments = role is Role.DEPLOYMENT_CONTRIBUTOR
    assert (scope_fault(Grant(role, ("a*",))) is None) is is_of_deployments
