"""Genuine, unmodified clients against a real server process, over sockets."""
