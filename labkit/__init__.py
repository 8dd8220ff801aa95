"""labkit: a real Docker Swarm in a notebook, its state as data, its traffic measured."""

from labkit.engine import Fleet, Status, connect, down, reset, status, up

__all__ = ["Fleet", "Status", "connect", "down", "reset", "status", "up"]
__version__ = "0.1.0"
