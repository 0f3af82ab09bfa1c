"""OpenAI v1: `/openai/v1/…` and `/v1/…`; the body's `model` names the deployment."""

from modelport.surfaces.openai_v1.routes import BASES, DOOR, routes

__all__ = ["BASES", "DOOR", "routes"]
