"""Configuration: one YAML file, the environment and flags become one typed, checked, frozen tree.

`load.read` is the door; `client` reads the few settings of a command that only needs an address and a key. What is
wrong is told all at once, each fault with its file, line and key. The values of secrets are never part of a fault, a
repr or a dump.
"""
