"""A development issuer of tokens, in the shapes of Entra ID: for a laptop and for CI, without a network."""
