"""Values that docker reads out of texts: durations, sizes, CPUs, commands, ports, mounts.

Each function takes what the docker command takes and nothing else, so that a file is judged as
docker judges it, and two spellings of one value are seen to be the same.
"""

import re
from fractions import Fraction
from ipaddress import ip_address
from typing import Any

_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9,
                "m": 60 * 10**9, "h": 3600 * 10**9}  # fmt: skip
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"[-+]?(?:0|(?:{_PART.pattern})+)")
_SIZE = re.compile(r"(?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)) ?(?P<unit>b|[kmgtp](?:i?b)?|)",
                   re.IGNORECASE)  # fmt: skip
_UNITS = "bkmgtp"
_CPUS = re.compile(r"[-+]?(?:[0-9]+/[0-9]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)")
_BIGGEST = 2**63  # of what docker counts in

# What a shell would cut at blanks; an unclosed quote fits nowhere.
_QUOTED = r"""\\.|"(?:[^"\\]|\\.)*+"|'[^']*+'"""
_WORD = re.compile(
    rf"""(?:[^\s"'\\#]|{_QUOTED})(?:[^\s"'\\]|{_QUOTED})*+|(?P<comment>\#[^\n]*+)""", re.DOTALL
)
_ESCAPED = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*+)"|'([^']*+)'""", re.DOTALL)

PROTOCOLS = ("tcp", "udp", "sctp")
PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")


class Bad(ValueError):
    """A text that docker refuses; the message says why, in French."""


def duration(text: str) -> int | None:
    """Return the nanoseconds of ``1m30s``; None if it is no duration."""
    if not _DURATION.fullmatch(text):
        return None
    total = sum(Fraction(n) * _NANOSECONDS[unit] for n, unit in _PART.findall(text))
    if total >= _BIGGEST:
        return None
    return int(-total if text.startswith("-") else total)


def size(text: str) -> int | None:
    """Return the bytes of ``512M``; None if it is no size."""
    found = _SIZE.fullmatch(text)
    if not found or (found["number"].startswith("-") and Fraction(found["number"])):
        return None
    power = _UNITS.index(found["unit"][:1].lower() or "b")
    return int(Fraction(found["number"].rstrip(".")) * 1024**power)


def cpus(text: str) -> Fraction | None:
    """Return the share of ``0.5`` CPU; None if it is none, or finer than a billionth."""
    try:
        share = Fraction(text) if _CPUS.fullmatch(text) else None
    except (ValueError, ZeroDivisionError):
        return None
    return share if share is not None and (share * 10**9).denominator == 1 else None


def words(command: str) -> list[str] | None:
    """Return the words of a command as a shell would; None if a quote is not closed."""
    found: list[str] = []
    at = 0
    while at < len(command):
        if command[at].isspace():
            at += 1
            continue
        word = _WORD.match(command, at)
        if not word:
            return None
        at = word.end()
        if word["comment"] is None:
            found.append(_ESCAPED.sub(_unquoted, word[0]))
    return found


def _unquoted(found: re.Match[str]) -> str:
    if found[2] is not None:
        return re.sub(r"\\(.)", r"\1", found[2], flags=re.DOTALL)
    return found[1] if found[1] is not None else found[3]


def split_port(text: str) -> tuple[str, str, str, str]:
    """Return target, published port, protocol and address of ``[[address:]port:]port[/tcp]``."""
    rest, _, inside = text.rpartition(":")
    target, _, protocol = inside.partition("/")
    address, _, published = rest.rpartition(":")
    return target, published, protocol.partition("/")[0] or "tcp", address


def check_ports(text: str) -> None:
    """Raise ``Bad`` unless a text is ``[[address:]published:]target[/protocol]``."""
    target, published, protocol, address = split_port(text)
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address:
        try:
            ip_address(address.partition("%")[0])
        except ValueError:
            raise Bad(f"« {address} » n’est pas une adresse IP.") from None
    if not target:
        raise Bad("il manque le port du conteneur.")
    ins = _range(target)
    outs = _range(published) if published else None
    if outs and ins[0] != ins[1] and ins[1] - ins[0] != outs[1] - outs[0]:
        raise Bad("les deux plages n’ont pas la même longueur.")
    if protocol.lower() not in PROTOCOLS:
        raise Bad(f"« {protocol} » n’est pas un protocole : {', '.join(PROTOCOLS)}.")


def _range(text: str) -> tuple[int, int]:
    numbers = text.split("-")[:2]
    if not all(re.fullmatch(r"[0-9]{1,19}", n) and int(n) < 1 << 16 for n in numbers):
        raise Bad(f"« {text} » n’est pas un port : un port est un nombre de 1 à 65535.")
    first, last = int(numbers[0]), int(numbers[-1])
    if last < first:
        raise Bad(f"la plage « {text} » va du plus grand port au plus petit.")
    return first, last


def long_mount(text: str) -> dict[str, Any]:
    """Return the long form of a short mount, or raise ``Bad``."""
    parts = _split_mount(text)
    if len(parts) == 1:
        return {"type": "volume", "target": text}
    source, target, *flags = parts
    kind = "bind" if _is_path(source) else "volume"
    long: dict[str, Any] = {"type": kind, "source": source, "target": target}
    for flag in flags[0].split(",") if flags else ():
        if flag == "ro":
            long["read_only"] = True
        elif flag == "nocopy":
            long["volume"] = {"nocopy": True}
        elif flag in PROPAGATIONS:
            long["bind"] = {"propagation": flag}
    return long


def _split_mount(text: str) -> list[str]:
    """Return source, target and flags of a short mount, or its target alone."""
    if not text:
        raise Bad("le volume est vide.")
    if len(text) < 3:
        return [text]
    parts = [""]
    for character in text:
        drive = len(parts[-1]) == 1 and parts[-1].isalpha()
        if character == ":" and not drive:
            parts.append("")
        else:
            parts[-1] += character
    if not all(parts):
        raise Bad("il n’y a rien d’un côté d’un « : ».")
    if len(parts) > 3:
        raise Bad("il y a trop de « : ».")
    return parts


def _is_path(source: str) -> bool:
    """Whether the source of a short mount is a path of the machine, and not a volume's name."""
    return source[0] in "./~" or source.startswith("\\\\") or bool(re.match(r"[^\W\d_]:", source))
