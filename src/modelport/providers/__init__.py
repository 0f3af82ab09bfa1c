"""Models elsewhere. Each module is one adapter, and its name is the `type` in the configuration: it has `Settings`, a
pydantic model of its own keys, and `open(settings, name)`, which gives a Provider or an OpeningProvider."""
