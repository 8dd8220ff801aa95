"""The cockpit, where ``notebooks/cockpit`` imports it from."""

from labkit.views.cockpit import Cockpit

__all__ = ["Cockpit"]
