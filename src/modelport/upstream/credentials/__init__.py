"""Tokens that the gateway shows to upstreams: fetched from a token server, and kept fresh beside the calls."""
