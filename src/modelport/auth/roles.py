"""The claims of a verified token → who it is, and what it may do.

Group ids, subjects and application ids mean something within one issuer only, so every rule belongs to an issuer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from modelport.core.catalog import Snapshot
from modelport.core.identity import Assignee, AssigneeKind, ClaimRule, Principal, grants_of
from modelport.core.roles import Grant, Permission

GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SPACED: Final = frozenset({"scope", "scp"})
"""Claims that hold several values in one text."""
NAME_CHARACTERS: Final = 200
"""Of a subject, beyond which its hash stands for it."""


def principal_of(claims: Mapping[str, Any], issuer: str, rules: Sequence[ClaimRule], snapshot: Snapshot) -> Principal:
    """`claims`: of a token that was verified. `issuer`: the `issuer` of the `auth.oidc` entry that it was verified by,
    as it is configured. A principal without grants may do nothing: its calls are refused with PermissionDenied.

    The rules and assignments are those of this moment: call it again for a token that is remembered when the snapshot
    is another one."""
    assigned = snapshot.role_assignments
    given = [
        *(rule.grant for rule in rules if holds(claims, rule.claim, rule.value)),
        *(grant for kind, value in assignees(claims) for grant in grants_of(assigned, kind, normal(value), issuer)),
    ]
    grants = tuple(dict.fromkeys(given))
    project = project_of(grants)
    budget = snapshot.project_budgets.get(project) if project is not None else None
    return Principal(
        name=name_of(claims),
        key_id=issuer,
        grants=grants,
        project=project,
        budgets=(budget,) if budget is not None else (),
        is_by_token=True,
    )


def project_of(grants: Sequence[Grant]) -> str | None:
    """What its calls are booked with: the project of the first grant for inference that names one."""
    return next((grant.project for grant in grants if grant.gives(Permission.INFER) and grant.project), None)


def assignees(claims: Mapping[str, Any]) -> Iterator[tuple[AssigneeKind, str]]:
    """Whom a token is about. A token that a user got through an application is not that application's own."""
    for claim in ("oid", "sub"):
        if text := text_of(claims, claim):
            yield "user", text
            break
    if (application := application_of(claims)) and is_of_application(claims):
        yield "application", application
    groups = claims.get("groups")
    for group in groups if isinstance(groups, list) else ():
        if isinstance(group, str):
            yield "group", group


def application_of(claims: Mapping[str, Any]) -> str | None:
    """The id of the application that asked for the token."""
    return next((found for claim in ("azp", "appid", "client_id") if (found := text_of(claims, claim))), None)


def is_of_application(claims: Mapping[str, Any]) -> bool:
    """Whether the token is an application's own: no user signed in."""
    if (kind := text_of(claims, "idtyp")) is not None:
        return kind == "app"
    subject, own = text_of(claims, "sub"), (text_of(claims, "oid"), application_of(claims))
    return "scp" not in claims and subject is not None and subject in own


def has_group_overage(claims: Mapping[str, Any]) -> bool:
    """Whether the user is in more groups than a token of Entra lists: rules over groups do not see them."""
    names = claims.get("_claim_names")
    return "groups" not in claims and ((isinstance(names, Mapping) and "groups" in names) or "hasgroups" in claims)


def name_of(claims: Mapping[str, Any]) -> str:
    """For records and the audit: `application:ID` or `user:ID`; no key has such a name."""
    application = application_of(claims)
    if application and is_of_application(claims):
        return f"application:{printable(application)}"
    return f"user:{printable(text_of(claims, 'oid') or text_of(claims, 'sub') or '')}"


def holds(claims: Mapping[str, Any], claim: str, value: str) -> bool:
    """Whether a claim is this text, or a list that has it. `a.b` is claim `a.b`, or `b` in the object `a`."""
    found: Any = claims.get(claim)
    if found is None and "." in claim:
        found = claims
        for part in claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        texts: Sequence[Any] = found.split() if claim in SPACED else [found]
    else:
        texts = found if isinstance(found, list) else []
    return any(isinstance(text, str) and normal(text) == normal(value) for text in texts)


def normal(value: str) -> str:
    """GUIDs are the same in either case; in other values case may matter to the issuer."""
    return value.lower() if GUID.fullmatch(value) else value


def assignee(kind: AssigneeKind, value: str, issuer: str | None) -> Assignee:
    """As `Snapshot.role_assignments` has it."""
    return Assignee(kind, value.lower() if kind == "key" else normal(value), issuer)


def text_of(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim that is a text, and not an empty one."""
    found = claims.get(name)
    return found if isinstance(found, str) and found else None


def printable(text: str) -> str:
    """For logs and reports: what is long or odd is replaced by its hash."""
    if text.isprintable() and len(text) <= NAME_CHARACTERS:
        return text
    return "sha256-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
