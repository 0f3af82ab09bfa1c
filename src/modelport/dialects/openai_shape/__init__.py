"""OpenAI's wire shape, as far as several surfaces and upstreams share it."""
