"""Who may ask the service for what: keys, limits, paths, bodies, drain. Pure ASGI, no engine."""
