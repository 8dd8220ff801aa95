"""Find what Kubernetes would refuse of a manifest, in French.

``kubernetes-validate`` carries the schemas made from Kubernetes's own API description, so that it
needs neither cluster nor network. ``kubectl`` does need a cluster, whose API server holds the
schema: ``--dry-run=client`` stops at its silence. What the schema says in words only is in
:mod:`labkit.kubernetes.constraints` and :mod:`labkit.kubernetes.rules`.
"""

from __future__ import annotations

import base64
import difflib
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.compose.schema import kind_of, short, spelling, types_asked, types_in_words
from labkit.documents import Step
from labkit.kubernetes.constraints import LABEL, PATH_SEGMENT, SAID, SUBDOMAIN, constrain
from labkit.kubernetes.manifest import KubeObject, Manifest
from labkit.kubernetes.pods import Fault
from labkit.kubernetes.rules import faults
from labkit.text.tables import table_html, table_text

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import ValidationError

SCHEMA_VERSION = ".".join(version("kubernetes-validate").split(".")[:2])
"""The Kubernetes whose schema is used, such as ``1.37``."""


class ManifestProblem(NamedTuple):
    """Something that Kubernetes refuses: where, why, and what to try."""

    line: int
    where: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, repr=False)
class Validation:
    """Kubernetes's verdict on a manifest; it yields the problems."""

    manifest: Manifest  # what was checked
    problems: tuple[ManifestProblem, ...]  # in the file's order
    # objects of groups that are none of Kubernetes's own (custom resources…): a cluster takes them
    # where their definition was installed, and nothing here says what they may hold
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
        said = f"{checked} objet{_s(checked)} vérifié{_s(checked)} avec le schéma et les règles de "
        said += f"Kubernetes {SCHEMA_VERSION} : "
        count = len(self.problems)
        said += f"{count} erreur{_s(count)}." if count else "aucune erreur."
        if self.unknown:
            names = ", ".join(o.title for o in self.unknown[:10])
            more = f" et {len(self.unknown) - 10} autres" if len(self.unknown) > 10 else ""
            said += f" Hors de ce schéma : {names}{more}."
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


_HEAD = ("Ligne", "Objet", "Ce qui est refusé")


def validate(manifest: Manifest) -> Validation:
    """Check a manifest as the API server of :data:`SCHEMA_VERSION` would.

    Keys that the schema does not know are errors, as for ``kubectl``, which asks for a strict
    validation. Rules that take values together are tried where the schema finds nothing.
    """
    problems: list[ManifestProblem] = []
    unknown: list[KubeObject] = []
    sound: list[KubeObject] = []
    for one in manifest.objects:
        found = list(_version_faults(one))
        definition = _definition(one.api_version, one.kind)
        if not found and not definition:
            unknown.append(one)
            continue
        data = _without_nulls(one.data)
        found = found or list(_schema_faults(definition, data))
        if not found:
            sound.append(one)
            found = [*_name_faults(one), *faults(one.kind, data)]
        problems += (
            ManifestProblem(one.at(*at), one.title, *said) for at, *said in dict.fromkeys(found)
        )
    problems += _taken_node_ports(sound)
    problems.sort(key=lambda p: p.line)
    return Validation(manifest, tuple(problems), tuple(unknown))


def _s(count: int) -> str:
    return "s" if count > 1 else ""


def _without_nulls(value: Any) -> Any:
    """Leave out keys without a value, and take items without one as empty, as Kubernetes does."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        nothing: Any = "" if any(isinstance(v, str) for v in value) else {}
        return [nothing if v is None else _without_nulls(v) for v in value]
    return value


# -- kinds and versions ---------------------------------------------------------------------


@functools.cache
def _schema() -> dict[str, Any]:
    """Return the published schema, strict, with what is asked of values joined to it."""
    from kubernetes_validate.utils import schema_contents

    folder = f"kubernetes-json-schema/v{SCHEMA_VERSION}.0-local-strict"
    schema: dict[str, Any] = schema_contents(f"{folder}/_definitions.json", SCHEMA_VERSION)
    constrain(schema["$defs"])
    return schema


@functools.cache
def _kinds() -> dict[str, dict[str, str]]:
    """Return the definition of each kind that can be created, by kind and apiVersion."""
    kinds: dict[str, dict[str, str]] = defaultdict(dict)
    for name, about in _schema()["$defs"].items():
        if "ObjectMeta" not in str(about.get("properties", {}).get("metadata", "")):
            continue
        for of in about.get("x-kubernetes-group-version-kind", ()):
            kinds[of["kind"]][f"{of['group']}/{of['version']}".lstrip("/")] = name
    return dict(kinds)


def _definition(version: str, kind: str) -> str:
    """Return the name of a kind's definition; empty where Kubernetes has none."""
    return _kinds().get(kind, {}).get(version, "")


@functools.cache
def _own_groups() -> frozenset[str]:
    versions = {version for versions in _kinds().values() for version in versions}
    return frozenset(v.rpartition("/")[0] for v in versions) | {"extensions"}


def _version_faults(one: KubeObject) -> Iterator[Fault]:
    """Say what is wrong with a kind and its apiVersion; groups with a dot may be anybody's."""
    group, _, number = one.api_version.rpartition("/")
    if _definition(one.api_version, one.kind) or not (
        group in _own_groups() or "." not in group or not number or "/" in group
    ):
        return
    where = f"« {short(one.kind)} » dans « {short(one.api_version)} »."
    if there := list(_kinds().get(one.kind, ())):
        remedy = f"Écrivez « apiVersion: {' » ou « apiVersion: '.join(there)} »."
        yield ("apiVersion",), f"Kubernetes {SCHEMA_VERSION} n’a pas de {where}", remedy
        return
    names = {kind.lower(): kind for kind in _kinds()}
    close = difflib.get_close_matches(one.kind[:60].lower(), names, n=1, cutoff=0.75)
    if close:
        kind = names[close[0]]
        remedy = f"Vouliez-vous écrire « kind: {kind} » ?"
        if one.api_version not in _kinds()[kind]:
            remedy += f" Son « apiVersion » est « {next(iter(_kinds()[kind]))} »."
    elif group in _own_groups() and number:
        remedy = "Vérifiez le nom de l’objet : cette version de Kubernetes ne l’a pas, ou plus."
    else:
        remedy = "Un objet que l’on a défini soi-même a un domaine dans « apiVersion »."
    yield ("kind",), f"Kubernetes {SCHEMA_VERSION} n’a pas d’objet {where}", remedy


def _name_faults(one: KubeObject) -> Iterator[Fault]:
    name, prefix = (one.get("metadata", key) for key in ("name", "generateName"))
    if not name and not prefix:
        if not one.kind.endswith("Review"):  # a question, which is kept nowhere
            why = "il manque un nom à cet objet."
            yield ("metadata",), why, "Ajoutez « name » sous « metadata »."
        return
    from jsonschema import Draft202012Validator

    rule = LABEL if one.kind in ("Service", "Namespace") else SUBDOMAIN
    rule = PATH_SEGMENT if one.api_version.startswith("rbac.") else rule
    text = name or prefix.rstrip("-.") or "x"
    key = "name" if name else "generateName"
    if "{{" in text:
        yield (
            ("metadata", key),
            f"« {short(text)} » est une expression de modèle, comme en écrit Helm : ce n’est pas "
            "un nom.",
            "Fabriquez d’abord le manifeste, par exemple avec « helm template ».",
        )
    elif not Draft202012Validator(rule).is_valid(text):
        why = f"« {short(text)} » n’est pas un nom possible pour un {one.kind}."
        yield ("metadata", key), why, f"Il y faut {rule[SAID]}."
    elif one.kind == "CronJob" and len(text) > 52:
        why = f"le nom d’un CronJob a 52 caractères au plus, celui-ci {len(text)}."
        yield ("metadata", key), why, "Raccourcissez-le : ses Jobs y ajoutent une date."


def _taken_node_ports(services: Iterable[KubeObject]) -> Iterator[ManifestProblem]:
    """Say which Services ask for a port of the nodes that another one of the manifest has."""
    taken: dict[tuple[int, str], KubeObject] = {}
    for one in services:
        opened = one.kind == "Service" and one.get("spec", "type") in ("NodePort", "LoadBalancer")
        ports = (one.get("spec", "ports") or []) if opened else []
        for i, port in enumerate(ports):
            asked = (port.get("nodePort") or 0, port.get("protocol") or "TCP")
            other = taken.setdefault(asked, one)
            if asked[0] and (other.name, other.space) != (one.name, one.space):
                why = f"le « nodePort » {asked[0]} est déjà celui du Service « {other.name} »."
                remedy = "Donnez un autre « nodePort » à l’un des deux."
                yield ManifestProblem(
                    one.at("spec", "ports", i, "nodePort"), one.title, why, remedy
                )


# -- the schema -----------------------------------------------------------------------------


@functools.cache
def _formats() -> FormatChecker:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    for name, bits in (("int32", 32), ("int64", 64)):
        checker.checks(name)(functools.partial(_fits_in, bits))
    checker.checks("byte", raises=ValueError)(_check_base64)
    return checker


def _fits_in(bits: int, value: Any) -> bool:
    return not isinstance(value, int) or -(1 << bits - 1) <= value < 1 << bits - 1


def _check_base64(value: Any) -> bool:
    if isinstance(value, str):
        base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    return True


@functools.cache
def _validator(definition: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    schema = _schema()
    registry: Registry[Any] = Registry().with_resource(
        schema["$id"], Resource.from_contents(schema)
    )
    top = {"$ref": f"{schema['$id']}#/$defs/{definition}"}
    return Draft202012Validator(top, registry=registry, format_checker=_formats())


def _schema_faults(definition: str, data: dict[str, Any]) -> Iterator[Fault]:
    found = [fault for error in _validator(definition).iter_errors(data) for fault in _said(error)]
    meant = {(path[:-1], remedy) for path, _, remedy in found}
    for path, reason, remedy in found:
        missing = remedy.removeprefix("Ajoutez « ").removesuffix(" ».")
        if (path, spelling(missing, [missing])) not in meant:  # it is there, misspelt
            yield path, reason, remedy


def _said(error: ValidationError) -> Iterator[Fault]:
    """Say in French what an error of ``jsonschema`` means for a manifest."""
    path: tuple[Step, ...] = tuple(error.absolute_path)
    value, wanted, schema = error.instance, error.validator_value, error.schema
    option = _option(path)
    match error.validator:
        case "additionalProperties":
            allowed = schema.get("properties", {})
            for key in value:
                if key not in allowed:
                    reason = f"« {short(key)} » n’est pas une option de {option}."
                    yield (*path, key), reason, spelling(key, allowed)
        case "required":
            for key in (k for k in wanted if k not in value):
                yield path, f"il manque « {key} » à {option}.", f"Ajoutez « {key} »."
        case "type" | "oneOf" | "anyOf":
            yield path, *_other_type(error, option, bool(path))
        case "enum":
            choices = [str(w) for w in wanted if w]
            near = [c for c in choices if c.lower() == str(value).lower()]
            remedy = (
                f"Écrivez « {near[0]} »." if near else f"Valeurs possibles : {', '.join(choices)}."
            )
            said = f"ne peut pas valoir « {short(value)} »" if value else "est vide"
            yield path, f"{option} {said}.", remedy
        case "minimum" | "maximum":
            low, high = schema.get("minimum"), schema.get("maximum")
            remedy = f"Il y faut au moins {low}." if high is None else f"Il y faut {low} à {high}."
            yield path, f"{option} ne peut pas valoir {short(value)}.", remedy
        case "format" if wanted == "byte":
            remedy = (
                "Codez la valeur avec « base64 », ou écrivez-la telle quelle sous « stringData »."
            )
            yield path, f"{option} n’est pas du base64.", remedy
        case "format":
            yield path, f"{option} est un nombre trop grand.", f"Il tient sur {wanted[3:]} bits."
        case "minLength" | "minItems":
            yield path, f"{option} est vide.", "Donnez-lui une valeur."
        case _:  # pattern and maxLength
            if "propertyNames" in error.absolute_schema_path:
                path, option = (*path, value), f"la clé « {short(value)} »"
            remedy = f"Il y faut {schema[SAID]}." if SAID in schema else ""
            if value == "" or value in path[-1:]:
                yield path, f"{option} n’est pas possible.", remedy
            else:
                yield path, f"{option} ne peut pas valoir « {short(value)} ».", remedy


def _other_type(error: ValidationError, option: str, inside: bool) -> tuple[str, str]:
    asked = types_asked([error, *(error.context or ())])
    wanted = types_in_words(asked)
    value = error.instance
    remedy = ""
    if "string" in asked and isinstance(value, int | float):
        remedy = "Mettez la valeur entre guillemets."
    elif "integer" in asked and isinstance(value, str) and value.lstrip("+-").isdecimal():
        remedy = "Retirez les guillemets."
    elif value is None:
        remedy = "Donnez-lui une valeur, en l’indentant dessous, ou retirez-le."
    elif inside:
        remedy = f"Écrivez-y {wanted}."
    found = "un texte vide" if value == "" else kind_of(value)
    return f"{option} doit être {wanted}, pas {found}.", remedy


def _option(path: tuple[Step, ...]) -> str:
    keys = ".".join(str(step) for step in path if not isinstance(step, int))
    if not keys:
        return "cet objet"
    number = f" (élément {path[-1] + 1})" if isinstance(path[-1], int) else ""
    return f"« {short(keys, 80)} »{number}"
