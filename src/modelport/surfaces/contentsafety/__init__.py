"""Azure AI Content Safety's API: what the filters say of a text."""

from modelport.surfaces.contentsafety.routes import BASE, DOOR, routes

__all__ = ["BASE", "DOOR", "routes"]
