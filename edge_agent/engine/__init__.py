"""The Docker Engine: the client, in threads, and the watch over it. `client.py` alone knows the docker package."""

from edge_agent.engine.engine import Engine
from edge_agent.engine.track import Track

__all__ = ["Engine", "Track"]
