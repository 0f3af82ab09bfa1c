"""What the gateway needs of others, as promises."""
