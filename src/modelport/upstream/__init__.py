"""The way out: the one package that knows HTTP client libraries."""
