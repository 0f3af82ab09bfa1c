"""What one process keeps for itself and forgets when it ends."""
