"""The Azure AI Model Inference API: `/models` and `/api/models` for many deployments, the root form for one."""

from modelport.surfaces.azure_inference.doors import MODELS, MODELS_BASES, ROOT, ROOT_BASES
from modelport.surfaces.azure_inference.routes import routes

__all__ = ["MODELS", "MODELS_BASES", "ROOT", "ROOT_BASES", "routes"]
