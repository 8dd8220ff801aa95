"""Compose files: read, explained, compared, drawn; and live stacks in the same terms.

>>> file = parse("services: {web: {image: nginx, deploy: {replicas: 2}}}")
>>> file.services[0].scale
'2 replicas'
>>> [finding.option for finding in explain(file).of(Fate.SWARM)]
['deploy.replicas']
"""

from labkit.compose.building import from_stack, parse, read
from labkit.compose.comparison import Comparison, Difference, compare
from labkit.compose.drawing import Architecture, draw
from labkit.compose.explanation import Explanation, explain
from labkit.compose.model import (
    ComposeFile,
    ComposeMount,
    ComposeNetwork,
    ComposePort,
    ComposeService,
    ComposeVolume,
    Variable,
)
from labkit.compose.swarm_options import Fate, Finding

__all__ = [
    "Architecture",
    "Comparison",
    "ComposeFile",
    "ComposeMount",
    "ComposeNetwork",
    "ComposePort",
    "ComposeService",
    "ComposeVolume",
    "Difference",
    "Explanation",
    "Fate",
    "Finding",
    "Variable",
    "compare",
    "draw",
    "explain",
    "from_stack",
    "parse",
    "read",
]
