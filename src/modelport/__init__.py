"""modelport: one endpoint and one credential in front of every model. Importing does no work."""

__version__ = "0.1.0"
