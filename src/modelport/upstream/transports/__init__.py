"""Transports: each sends one request to an address and hands back the answer as it comes."""
