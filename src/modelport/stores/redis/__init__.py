"""What a fleet shares in Redis. The client library is the `redis` extra."""
