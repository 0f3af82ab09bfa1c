"""What the development issuer answers: its authority over https, managed identities over http. No I/O.

A request comes as method, path, query, headers and form; an answer is a status and a JSON document.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from modelport.identity.identities import Identity
from modelport.identity.issuing import Issued, Issuer, Refused

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEFAULT_SCOPE: Final = "/.default"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; names of headers in lower case. `form` and `query` hold one value a name."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and a JSON document. `about` is for the log, and never holds a secret."""

    status: int
    document: Mapping[str, Any]
    about: str = ""


NOT_FOUND: Final = Reply(404, {"error": "not_found"})


def authority(issuer: Issuer, request: Request) -> Reply:
    """The authority: discovery, keys, tokens."""
    segments = request.path.strip("/").split("/")
    tenant, rest = segments[0].lower(), "/".join(segments[1:])
    if tenant != issuer.directory.tenant_id:
        if rest in ("oauth2/v2.0/token", "oauth2/token"):
            refused = Refused(400, "invalid_request", 90002, "This issuer does not know the tenant.")
            return refusal(refused)
        return NOT_FOUND
    match request.method, rest:
        case "GET", ".well-known/openid-configuration":
            return Reply(200, discovery(issuer, "1.0"))
        case "GET", "v2.0/.well-known/openid-configuration":
            return Reply(200, discovery(issuer, "2.0"))
        case "GET", "discovery/keys" | "discovery/v2.0/keys":
            return Reply(200, issuer.keys.key_set())
        case "POST", "oauth2/v2.0/token" | "oauth2/token":
            try:
                identity, issued, how = grant(issuer, request.form, is_v2=rest == "oauth2/v2.0/token")
            except Refused as refused:
                return refusal(refused)
            return Reply(200, token_document(issued), f"{identity.name} by {how} for {issued.audience}")
    return NOT_FOUND


def discovery(issuer: Issuer, version: str) -> dict[str, Any]:
    """OpenID Connect's document, as far as machines use it."""
    base = f"{issuer.authority}/{issuer.directory.tenant_id}"
    middle = "v2.0/" if version == "2.0" else ""
    return {
        "issuer": issuer.issuer_of(version),
        "token_endpoint": f"{base}/oauth2/{middle}token",
        "authorization_endpoint": f"{base}/oauth2/{middle}authorize",
        "jwks_uri": f"{base}/discovery/{middle}keys",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_types_supported": ["token"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["aud", "iss", "iat", "nbf", "exp", "oid", "sub", "tid", "roles", "groups"],
        "tenant_region_scope": None,
    }


def grant(issuer: Issuer, form: Mapping[str, str], *, is_v2: bool) -> tuple[Identity, Issued, str]:
    """The client credentials grant: by secret, or by an assertion of this issuer. Raises Refused."""
    if form.get("grant_type") != "client_credentials":
        raise Refused(400, "unsupported_grant_type", 70003, "The grant type is not client_credentials.")
    audience = audience_of(form, is_v2=is_v2)
    identity = issuer.directory.by_client_id(form.get("client_id", ""))
    if "client_assertion" in form:
        if form.get("client_assertion_type") != JWT_BEARER:
            raise Refused(400, "invalid_request", 900144, f"client_assertion_type is not {JWT_BEARER}.")
        if identity is None:
            raise unknown_application()
        issuer.verify_assertion(identity, form["client_assertion"])
        return identity, issuer.issue(identity, audience, "assertion"), "assertion"
    if identity is None:
        raise unknown_application()
    given = form.get("client_secret", "").encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(given, identity.secret.reveal().encode()):
        raise Refused(401, "invalid_client", 7000215, "Invalid client secret provided.")
    return identity, issuer.issue(identity, audience, "secret"), "secret"


def audience_of(form: Mapping[str, str], *, is_v2: bool) -> str:
    """The resource that a token is asked for. Raises Refused.

    A scope's `/.default` goes, and only that: `https://host//.default` is for `https://host/`."""
    if not is_v2 and "scope" not in form:
        return checked_audience(form.get("resource", ""))
    # MSAL adds OpenID Connect's own scopes.
    scopes = [word for word in form.get("scope", "").split() if word not in ("openid", "profile", "offline_access")]
    if len(scopes) != 1 or not scopes[0].endswith(DEFAULT_SCOPE):
        raise Refused(400, "invalid_scope", 1002012, "The scope is not RESOURCE/.default.")
    return checked_audience(scopes[0].removesuffix(DEFAULT_SCOPE))


def checked_audience(audience: str) -> str:
    """Raises Refused unless this can be a resource."""
    if not audience or len(audience) > 500 or any(not "!" <= char <= "~" for char in audience):
        raise Refused(400, "invalid_resource", 500011, "No resource is named.")
    return audience


def token_document(issued: Issued) -> dict[str, Any]:
    """The answer of the token endpoint."""
    return {
        "token_type": "Bearer",
        "expires_in": issued.seconds,
        "ext_expires_in": issued.seconds,
        "access_token": issued.token,
    }


def refusal(refused: Refused) -> Reply:
    """Entra's shape of an error."""
    trace, when = str(uuid.uuid4()), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    document = {
        "error": refused.error,
        "error_description": f"AADSTS{refused.code}: {refused.description} Trace ID: {trace} Timestamp: {when}",
        "error_codes": [refused.code],
        "timestamp": when,
        "trace_id": trace,
        "correlation_id": trace,
    }
    return Reply(refused.status, document, f"refused ({refused.code}): {refused.description}")


def unknown_application() -> Refused:
    """No identity has this client id."""
    return Refused(400, "unauthorized_client", 700016, "This issuer does not know the application.")


def managed_identity(issuer: Issuer, request: Request, *, imds: bool) -> Reply:
    """Managed identities: of App Service always, of virtual machines (IMDS) where `imds` says so.

    App Service's endpoint wants its secret header. IMDS has none: a program on this machine is believed."""
    if request.method != "GET":
        return NOT_FOUND
    if request.path == "/msi/token":
        shown = request.headers.get("x-identity-header", "").encode("latin-1", "replace")
        if not hmac.compare_digest(shown, issuer.directory.identity_header.reveal().encode()):
            return managed_refusal(401, "unauthorized_client", "X-IDENTITY-HEADER is missing or wrong.")
        return managed_token(issuer, request, is_imds=False)
    if request.path == "/metadata/identity/oauth2/token" and imds:
        if request.headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in request.headers:
            return managed_refusal(400, "invalid_request", "Required metadata header not specified.")
        return managed_token(issuer, request, is_imds=True)
    return NOT_FOUND


def managed_token(issuer: Issuer, request: Request, *, is_imds: bool) -> Reply:
    """The token of the identity that is named, else of the first one."""
    directory, query = issuer.directory, request.query
    found: Identity | None = directory.identities[0]
    if "client_id" in query:
        found = directory.by_client_id(query["client_id"])
    elif object_id := query.get("object_id") or query.get("principal_id"):
        found = directory.by_object_id(object_id)
    if found is None:
        return managed_refusal(400, "invalid_request", "Identity not found.")
    try:
        issued = issuer.issue(found, checked_audience(query.get("resource", "")), "managed")
    except Refused as refused:
        return managed_refusal(refused.status, refused.error, refused.description)
    document = {
        "access_token": issued.token,
        "client_id": found.client_id,
        "expires_on": str(issued.expires_at),
        "resource": issued.audience,
        "token_type": "Bearer",
    }
    if is_imds:
        seconds = str(issued.seconds)
        document |= {"expires_in": seconds, "ext_expires_in": seconds, "not_before": str(issued.not_before)}
    return Reply(200, document, f"{found.name} by managed identity for {issued.audience}")


def managed_refusal(status: int, error: str, description: str) -> Reply:
    """The shape of both managed identity endpoints."""
    return Reply(status, {"error": error, "error_description": description}, f"refused: {description}")
