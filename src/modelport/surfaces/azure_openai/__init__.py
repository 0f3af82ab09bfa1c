"""Azure OpenAI: `/openai/deployments/{deployment}/…`; the path names the deployment."""

from modelport.surfaces.azure_openai.routes import BASES, DOOR, routes

__all__ = ["BASES", "DOOR", "routes"]
