"""The composition root: settings → snapshot and runtime → gateway → ASGI. Sees everything, decides nothing."""
