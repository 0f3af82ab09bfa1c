"""The migrations, oldest first. Each expands what is there, so that the version before it still works on the result."""
