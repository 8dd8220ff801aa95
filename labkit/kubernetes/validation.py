"""What the schema that Kubernetes publishes says of a manifest, in French.

``kubernetes-validate`` does the checking: it carries the schemas made from Kubernetes's own API
description, so that it needs neither cluster nor network. ``kubectl`` does need a cluster, whose
API server holds the schema: ``--dry-run=client`` stops at its silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import kubernetes_validate

from labkit.compose.schema import problems_of
from labkit.compose.text import table_html, table_text
from labkit.kubernetes.manifest import KubeObject, Manifest

__all__ = ["SCHEMA_VERSION", "ManifestProblem", "Validation", "validate"]

SCHEMA_VERSION = ".".join(kubernetes_validate.__version__.split(".")[:2])
"""The Kubernetes whose schema is used, such as ``1.37``."""


class ManifestProblem(NamedTuple):
    """Something that the schema refuses: where, why, and what to try."""

    line: int
    where: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, repr=False)
class Validation:
    """What the schema says of a manifest; it yields its problems.

    Attributes
    ----------
    manifest
        What was checked.
    problems
        In the file's order.
    unknown
        Objects whose kind is none of Kubernetes's own (a custom resource…): nothing says what
        they may hold.
    """

    manifest: Manifest
    problems: tuple[ManifestProblem, ...]
    unknown: tuple[KubeObject, ...]

    @property
    def ok(self) -> bool:
        """Nothing is refused."""
        return not self.problems

    def __iter__(self) -> Iterator[ManifestProblem]:
        return iter(self.problems)

    @property
    def conclusion(self) -> str:
        """The whole in a French sentence."""
        checked = len(self.manifest.objects) - len(self.unknown)
        said = f"{checked} objet{_s(checked)} vérifié{_s(checked)} avec le schéma de Kubernetes "
        said += f"{SCHEMA_VERSION} : "
        count = len(self.problems)
        said += f"{count} erreur{_s(count)}." if count else "aucune erreur."
        if self.unknown:
            names = ", ".join(o.title for o in self.unknown)
            said += f" Hors de ce schéma : {names}."
        return said

    def _rows(self) -> list[tuple[str, ...]]:
        return [(str(p.line), p.where, f"{p.reason} {p.remedy}".strip()) for p in self.problems]

    def __str__(self) -> str:
        title = f"{self.manifest.name} : {self.conclusion}"
        return title if self.ok else f"{title}\n\n{table_text(_HEAD, self._rows())}"

    __repr__ = __str__  # what a notebook keeps for those who see no table

    def _repr_html_(self) -> str:
        title = f"<strong>{escape(self.manifest.name)}</strong> : {escape(self.conclusion)}"
        return f"<p>{title}</p>" if self.ok else table_html(title, _HEAD, self._rows())


_HEAD = ("Ligne", "Objet", "Le schéma dit")


def validate(manifest: Manifest) -> Validation:
    """Check a manifest against the schema of :data:`SCHEMA_VERSION`.

    Of each object, the first error is told. Keys that the schema does not know are errors, as for
    an API server that validates strictly.

    Parameters
    ----------
    manifest
        From :func:`labkit.kubernetes.read`.
    """
    problems: list[ManifestProblem] = []
    unknown: list[KubeObject] = []
    for one in manifest.objects:
        try:
            kubernetes_validate.validate(dict(one.data), SCHEMA_VERSION, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unknown.append(one)
        except kubernetes_validate.ValidationError as error:
            problems += [
                ManifestProblem(one.at(*p.path), one.title, p.reason, p.remedy)
                for p in problems_of(error)
            ]
    problems.sort(key=lambda p: p.line)
    return Validation(manifest, tuple(problems), tuple(unknown))


def _s(count: int) -> str:
    return "s" if count > 1 else ""
