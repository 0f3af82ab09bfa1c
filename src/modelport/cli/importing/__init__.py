"""Other systems' files as a configuration of modelport. Nothing here reads or writes files."""
