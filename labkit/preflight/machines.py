"""A group's own machines before they join: the rows of their preflight."""

from collections.abc import Iterable, Iterator, Sequence

from labkit.engine.embedded.images import WHOAMI
from labkit.engine.machines import OwnMachine
from labkit.preflight.survey import PORTS, Survey
from labkit.verdict import Row

IMAGE = WHOAMI.name.removesuffix(":latest")
_SKEW = 5.0  # seconds beyond which the times in logs and tasks mislead
_HOUR = 3600.0  # certificates of a swarm are valid from one hour before they are made
_UNKNOWN = "non vérifié"


def machine_rows(survey: Survey) -> Iterator[Row]:
    """Return the rows of the preflight of own machines; pure.

    What could not be checked is a row that is not ok, says « non vérifié », and gives the
    command to type.
    """
    machines = survey.machines
    there = [m for m in machines if not m.error]
    for machine in machines:
        found = f"Docker Engine {machine.version}" if not machine.error else machine.error
        hint = (
            "Machine allumée ? Pour ssh, tapez une fois « ssh utilisateur@machine docker version » "
            "dans un terminal : la clé de la machine y est à accepter, et vous voyez ce qui "
            "manque."
        )
        yield Row(f"Moteur de {machine.name}", "répond", found, not machine.error, hint)
    if there:
        yield _versions(there)
        yield _docker(there)
        yield from _plain(there)
        yield _image(there)
        yield _clocks(there)
        yield from _swarms(there)
        yield from _addresses(there, survey)
    yield from _ports(machines, survey)


def _versions(machines: Sequence[OwnMachine]) -> Row:
    versions = sorted({m.version for m in machines})
    found = ", ".join(f"{m.name} {m.version}" for m in machines)
    hint = "Des versions différentes se côtoient dans un Swarm, mais les messages changent."
    return Row.whether("Versions", "la même partout", len(versions) == 1, found, hint)


def _docker(machines: Sequence[OwnMachine]) -> Row:
    silent = [f"{m.name} ({m.cli})" for m in machines if m.cli]
    untried = any(m.cli is None for m in machines)
    found = "répond pour chaque nœud"
    if silent:
        found = "échoue pour " + ", ".join(silent)
    elif untried:
        found = _UNKNOWN
    hint = (
        'Lancez d’abord labkit.up() (dans un terminal : eval "$(labkit env)"), qui écrit les '
        "contextes ; la commande docker doit être installée."
        if untried
        else "Essayez « docker --context node1 version » dans un terminal : elle dit pourquoi."
    )
    return Row(
        "Commande docker", "répond pour chaque nœud", found, found.startswith("répond"), hint
    )


def _plain(machines: Sequence[OwnMachine]) -> Iterator[Row]:
    plain = [m.name for m in machines if m.plain]
    if plain:
        what = "Protection des moteurs"
        hint = "Qui atteint ce port est root sur la machine. Passez par ssh://utilisateur@machine."
        yield Row.fault(what, "ssh, ou TLS", "aucune : " + ", ".join(plain), hint)


def _image(machines: Sequence[OwnMachine]) -> Row:
    absent = [m.name for m in machines if not m.image]
    what = f"Image {IMAGE}"
    hint = " ; ".join(f"« docker --context {name} pull {IMAGE} »" for name in absent)
    return Row.whether(what, "présente", not absent, "absente de " + ", ".join(absent), hint)


def _clocks(machines: Sequence[OwnMachine]) -> Row:
    what, expected = "Horloges", f"moins de {_SKEW:.0f} s d’écart"
    timed = [(m.clock, m.clock_error, m.name) for m in machines if m.clock is not None]
    if len(timed) < len(machines):
        unknown = ", ".join(m.name for m in machines if m.clock is None)
        return Row.fault(what, expected, f"{_UNKNOWN} : {unknown}", "Comparez « date -u ».")
    late, ahead = min(timed), max(timed)
    skew, doubt = ahead[0] - late[0], ahead[1] + late[1]
    if skew + doubt <= _SKEW or len(timed) == 1:
        return Row.fine(what, expected, "à la même heure")
    if skew - doubt <= _SKEW:
        found = f"{_UNKNOWN} : les réponses sont trop lentes pour le dire"
        return Row.fault(what, expected, found, "Comparez « date -u » sur chaque machine.")
    hint = "Sur chaque machine : « sudo timedatectl set-ntp true »."
    if skew > _HOUR:
        hint += " Au-delà d’une heure, les certificats du Swarm ne sont pas valables partout."
    return Row.fault(what, expected, f"{ahead[2]} avance de {skew:.0f} s sur {late[2]}", hint)


# -- swarms ---------------------------------------------------------------------------------


def _swarms(machines: Sequence[OwnMachine]) -> Iterator[Row]:
    """Say whose swarm each machine is in: fine when there is none, or one of these machines."""
    expected = "aucun, ou le même, dirigé par ces machines"
    groups = _groups([m for m in machines if m.swarm != "inactive"])
    here = {m.node_id for m in machines}
    if not groups:
        yield Row.fine("Swarm", expected, "aucun")
        return
    for group in groups:
        others = [m for m in group[0].managers if m[0] not in here]
        known = bool(group[0].managers)
        sound = all(m.swarm == "active" for m in group)
        if known and sound and not others and len(groups) == 1:
            names = ", ".join(m.name for m in group)
            yield Row.fine("Swarm", expected, f"le même : {names}")
            continue
        for machine in group:
            hint = (
                "labkit n’y touche pas. S’il est à vous et ne sert plus : « docker --context "
                f"{machine.name} swarm leave --force » ; sinon, demandez à qui il est."
            )
            yield Row.fault(f"Swarm de {machine.name}", expected, machine.standing, hint)


def _groups(machines: Iterable[OwnMachine]) -> list[list[OwnMachine]]:
    """Return the machines by swarm: those of one swarm have a manager in common."""
    groups: list[list[OwnMachine]] = []
    for machine in machines:
        ids = {i for i, _, _ in machine.managers}
        same = [g for g in groups if any(ids & {i for i, _, _ in m.managers} for m in g)]
        groups = [g for g in groups if g not in same]
        groups.append([*(m for g in same for m in g), machine])
    return groups


# -- addresses and ports --------------------------------------------------------------------


def advertised(machine: OwnMachine, survey: Survey) -> str | None:
    """Return the address of a machine at which the others reach it best; None if they do not."""
    counts = {
        address: sum(to == machine.name and at == address for _, to, at, _ in survey.reached)
        for address in machine.addresses or ()
    }
    best = max(counts, key=lambda a: counts[a], default=None)
    return best if best is not None and counts[best] else None


def _addresses(machines: Sequence[OwnMachine], survey: Survey) -> Iterator[Row]:
    for machine in machines:
        what, expected = f"Adresse de {machine.name}", "une seule"
        if machine.addresses is None:
            hint = (
                "Tapez « ip -4 -brief address » sur la machine. S’il y en a plusieurs, donnez à "
                "« docker swarm init » et « join » --advertise-addr et celle que les autres "
                "machines atteignent."
            )
            yield Row.fault(what, expected, f"{_UNKNOWN} : {machine.unprobed}", hint)
            continue
        listed = ", ".join(machine.addresses) or "aucune en IPv4"
        best = advertised(machine, survey)
        hint = "docker ne choisit pas entre plusieurs adresses. "
        if best:
            hint += f"À « docker swarm init » comme à « join », ajoutez --advertise-addr {best}"
            hint += " : les autres machines atteignent celle-là."
        else:
            hint += "Ajoutez --advertise-addr et celle que les autres machines atteignent."
        yield Row(what, expected, listed, len(machine.addresses) == 1, hint)


def _ports(machines: Sequence[OwnMachine], survey: Survey) -> Iterator[Row]:
    if len(machines) == 1:
        alone = f"{_UNKNOWN} : une seule machine est connue"
        hint = "Vous restez sur une seule ? Rien à faire. En groupe, nommez toutes les machines : "
        hint += "LABKIT_ENGINE=ssh://etudiante@vm1,ssh://etudiant@vm2."
        yield Row.fault("Ports entre les machines", "plusieurs machines", alone, hint)
        return
    best = {m.name: advertised(m, survey) for m in machines}  # the address to advertise
    ways = {(a, b, port) for a, b, at, port in survey.reached if best.get(b) == at}
    by_name = {m.name: m for m in machines}
    pairs = [(a, b) for a in by_name for b in by_name if a != b]
    for port in PORTS:
        blocked: list[str] = []
        unknown: list[str] = []
        for a, b in pairs:
            if (a, b, port) in ways:
                continue
            deaf = port in by_name[b].busy and port.endswith("/udp")
            untried = any(m.unprobed or not m.addresses for m in (by_name[a], by_name[b]))
            (unknown if deaf or untried else blocked).append(f"{a} → {b}")
        found = []
        if blocked:
            found.append("fermé : " + ", ".join(blocked))
        if unknown:
            found.append(f"{_UNKNOWN} : " + ", ".join(unknown))
        expected = "ouvert entre toutes les machines"
        hint = (_open_it(port) if blocked else "") + (_try_it(port, machines) if unknown else "")
        yield Row.whether(f"Port {port}", expected, not found, " ; ".join(found), hint)


def _open_it(port: str) -> str:
    return (
        f"Ouvrez {port} sur la machine d’arrivée (« sudo ufw allow {port} », ou « sudo "
        f"firewall-cmd --add-port={port} ») et, dans un nuage, dans son groupe de sécurité. "
    )


def _try_it(port: str, machines: Sequence[OwnMachine]) -> str:
    number, protocol = port.split("/")
    flag = " -u" if protocol == "udp" else ""
    why = {f"{m.name} : {m.unprobed}" for m in machines if m.unprobed}
    reasons = f" ({' ; '.join(sorted(why))})" if why else ""
    if not reasons and protocol == "udp":
        reasons = " (le moteur occupe déjà ce port, et ne répond pas à un essai)"
    return (
        f"labkit n’a pas pu l’essayer{reasons}. À la main : sur la machine d’arrivée « nc{flag} -l "
        f"-p {number} », sur l’autre « nc{flag} ADRESSE {number} », puis tapez un mot : il doit "
        "arriver. labkit l’essaie lui-même dès qu’il y a python3 sur la machine (par ssh), ou une "
        "image comme python:3-alpine sur son moteur. "
    )
