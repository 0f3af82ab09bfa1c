"""Tests that need a client's own environment; `python -m tests.clients.matrix` runs them there."""
