"""Kubernetes manifests: read, checked against the published schema, set beside a stack.

>>> manifest = parse(\"\"\"
... apiVersion: apps/v1
... kind: DaemonSet
... metadata: {name: guetteur}
... spec: {template: {spec: {containers: [{name: guetteur, image: traefik/whoami}]}}}
... \"\"\")
>>> as_compose(manifest).services[0].scale
'global'
>>> [problem.reason for problem in validate(manifest)]
['il manque « selector » à « spec ».', 'il manque « name » …]
"""

from labkit.kubernetes.equivalents import EQUIVALENTS, ONLY_KUBERNETES, Equivalent
from labkit.kubernetes.manifest import KubeObject, Manifest, parse, read
from labkit.kubernetes.translation import as_compose, draw, without_equivalent
from labkit.kubernetes.validation import SCHEMA_VERSION, Validation, validate

__all__ = [
    "EQUIVALENTS",
    "ONLY_KUBERNETES",
    "SCHEMA_VERSION",
    "Equivalent",
    "KubeObject",
    "Manifest",
    "Validation",
    "as_compose",
    "draw",
    "parse",
    "read",
    "validate",
    "without_equivalent",
]
