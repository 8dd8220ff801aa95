"""Add to the schema what Kubernetes asks of single values: names, ports, choices, quantities.

The published schema leaves it to words in its descriptions. ``constraints.yml`` has it as JSON
schema, by definition and key, and it is joined to the published one; each says in French what it
wants.
"""

import itertools
from typing import Any

from labkit.documents import beside

_Schema = dict[str, Any]

SAID = "x-labkit-wants"
"""Key under which a constraint says what it wants, in French."""


def _pattern(regex: str, most: int, said: str) -> _Schema:
    return {"pattern": rf"\A(?:{regex})\Z", "maxLength": most, SAID: said}


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_HOST = rf"{_LABEL}(\.{_LABEL})*"
LABEL = _pattern(
    _LABEL, 63, "des minuscules sans accent, des chiffres et « - », 63 caractères au plus"
)
SUBDOMAIN = _pattern(
    _HOST, 253, "des minuscules sans accent, des chiffres, « - » et « . », sans finir par un signe"
)
PATH_SEGMENT = _pattern(r"(?!\.\.?\Z)[^/%]+", 253, "un texte sans « / » ni « % »")
_QUALIFIED = _pattern(
    rf"({_HOST}/)?(?=[^/]{{1,63}}\Z){_NAME}",
    317,
    "des lettres sans accent, des chiffres, « - », « _ » et « . », 63 caractères au plus, après "
    "un domaine et « / » s’il y en a un",
)
_VALUE = _pattern(
    rf"({_NAME})?", 63,
    "des lettres sans accent, des chiffres, « - », « _ » et « . », 63 caractères au plus",
)  # fmt: skip
_PORT_NAME = _pattern(
    r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?", 15,
    "des minuscules, des chiffres et « - », dont une lettre, 15 caractères au plus",
)  # fmt: skip
_PORT = {"minimum": 1, "maximum": 65535}
_PORT_OR_ZERO = {"minimum": 0, "maximum": 65535}
_COUNT = {"minimum": 0}
_SOME = {"minLength": 1}
ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_NAMED: dict[str, _Schema] = {
    "LABEL": LABEL,
    "SUBDOMAIN": SUBDOMAIN,
    "QUALIFIED": _QUALIFIED,
    "ANNOTATION": _QUALIFIED
    | {"pattern": _QUALIFIED["pattern"].replace(_HOST, _HOST.replace("a-z", "a-zA-Z"))},
    "LABELS": {"propertyNames": _QUALIFIED, "additionalProperties": _VALUE},
    "KEYS": {
        "propertyNames": _pattern(
            r"(?!\.\.?\Z)(?!\.\.)[-._a-zA-Z0-9]+", 253,
            "des lettres sans accent, des chiffres, « - », « _ » et « . »",
        )
    },
    "VARIABLE": _pattern(r"[ -<>-~]+", 1 << 20, "des caractères sans accent, autres que « = »"),
    "DOMAIN": _pattern(rf"((\*\.)?{_HOST}|)", 253, "un nom de domaine en minuscules"),
    "HOST_PATH": _pattern(r"(?!(.*/)?\.\.(/.*)?\Z).+", 1 << 20, "un chemin sans « .. »"),
    "ROOTED_PATH": _pattern("/.*", 1 << 20, "un chemin qui commence par « / »"),
    "PORT_NAME": _PORT_NAME,
    "PORT": _PORT,
    "PORT_OR_ZERO": _PORT_OR_ZERO,
    "ANY_PORT": {"if": {"type": "string"}, "then": _PORT_NAME, "else": _PORT},
    "TARGET_PORT": {
        "if": {"type": "string"},
        "then": {"if": _SOME, "then": _PORT_NAME},
        "else": _PORT_OR_ZERO,
    },
    "SHARE": {
        "if": {"type": "string"},
        "then": {"pattern": r"\A[0-9]+%\Z", SAID: "un entier, ou un pourcentage comme « 25% »"},
        "else": _COUNT,
    },
    "COUNT": _COUNT,
    "SOME": _SOME,
    "ACCESS": {"minItems": 1, "items": {"enum": ACCESS_MODES}},
}  # fmt: skip
_NEEDED = {
    "core.v1.Container": ["image"],
    "core.v1.PersistentVolumeSpec": ["accessModes", "capacity"],
    "core.v1.ConfigMapVolumeSource": ["name"],
    "core.v1.SecretVolumeSource": ["secretName"],
}
_QUANTITY = _pattern(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?", 1 << 10,
    "une quantité, comme « 128Mi », « 1Gi » ou « 500m »",
)  # fmt: skip


def _meant(told: Any) -> Any:
    """Return the schema that a value of ``constraints.yml`` stands for."""
    if isinstance(told, list):
        return {"enum": [*told, ""]}  # an empty text is for Kubernetes as good as none
    if isinstance(told, str):
        schema = _NAMED[told.removesuffix("?")]
        return {"if": _SOME, "then": schema} if told.endswith("?") else schema
    return {k: _NAMED[v] if isinstance(v, str) else v for k, v in told.items()}


def constrain(definitions: dict[str, Any]) -> None:
    """Join what is asked of values to the published definitions, in place.

    A definition that is not there is passed over.
    """
    known = {".".join(name.rsplit(".", 3)[1:]): about for name, about in definitions.items()}
    for names, constraints in beside(__file__).items():
        for name, (keys, told) in itertools.product(names.split(), constraints.items()):
            values = known.get(name, {}).get("properties", {})
            for key in values.keys() & keys.split():
                _join(values[key], _meant(told))
    for short, needed in _NEEDED.items():
        if short in known:
            known[short]["required"] = [*known[short].get("required", []), *needed]
    known["api.resource.Quantity"].update(_QUANTITY)


def _join(schema: _Schema, more: _Schema) -> None:
    for key, value in more.items():
        if isinstance(schema.get(key), dict) and isinstance(value, dict):
            _join(schema[key], value)
        else:
            schema[key] = value
