"""The control plane over HTTP, for Administrators alone. What an endpoint answers, not how a server speaks: `app` gives
the endpoints to the one router there is, which demands the role."""
