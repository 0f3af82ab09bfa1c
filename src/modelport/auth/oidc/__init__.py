"""Tokens of OpenID Connect issuers, such as Entra ID: found out whose they are by signature, issuer and audience."""
