"""Azure Resource Manager's paths and bodies over the control plane: what the management SDK, `az` and Bicep send. One
file per resource; `table.py` has all endpoints."""
