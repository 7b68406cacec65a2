"""The hub's HTTP API (DESIGN §9): Starlette, a file a resource."""
