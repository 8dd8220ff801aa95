"""labkit: a real Docker Swarm in a notebook, its state as data, its traffic measured."""

__version__ = "0.1.0"
