"""Requests sent to a published port, and who answered them."""

from labkit.traffic.fairness import Uniformity
from labkit.traffic.sample import Sample
from labkit.traffic.sending import send

__all__ = ["Sample", "Uniformity", "send"]
