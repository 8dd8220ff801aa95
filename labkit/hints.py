"""The way out of what the docker command says when it fails: it tells the truth, and no more."""

import re
from pathlib import Path

from labkit.engine import connect
from labkit.engine.clients import NO_ANSWER, read
from labkit.errors import LabkitError

_LISTED = 12  # images named in one sentence

_FIXED = re.compile(r"only updates to Labels are allowed")
_LOCKED = re.compile(r"Swarm is encrypted and needs to be unlocked")
_TERMINAL = re.compile(r"the input device is not a TTY|stdin is not a terminal")
_NO_IMAGE = re.compile(
    r"No such image|pull access denied|manifest unknown|manifest for \S+ not found"
    r"|repository \S+ not found|failed to resolve reference"
)
_UNSET = re.compile(
    r"invalid reference format|required variable|variable is not set|invalid interpolation"
)
_AMBIGUOUS = re.compile(r"node (\S+) is ambiguous")


def way_out(said: str) -> str:
    """Return what to do about a failure of the docker command, in French; empty when unknown."""
    if _FIXED.search(said):
        return (
            "Un config et un secret ne se modifient plus une fois créés : donnez-lui un nouveau "
            "nom (dans un fichier : « name: …_v2 », sous configs), puis recommencez."
        )
    if _LOCKED.search(said):
        return "« docker swarm unlock » dans un terminal, ou « labkit reset » si la clé est perdue."
    if _TERMINAL.search(said):
        return "Une cellule n’a pas de clavier : tapez cette commande dans un terminal, ou sans -t."
    if found := _AMBIGUOUS.search(said):
        return (
            f"Deux lignes de « docker node ls » s’appellent {found[1]} : celle qui est « Down » "
            "est l’ancienne. « docker node rm », avec son identifiant, l’oublie."
        )
    if _UNSET.search(said) and Path(".env").is_file():
        return (
            "« docker stack deploy » ne lit pas .env, que seul docker compose lit : dans la même "
            "cellule, « set -a; . ./.env; set +a » avant la commande."
        )
    if _NO_IMAGE.search(said):
        names = images_at_hand()
        return f"Images à portée : {', '.join(names)}." if names else ""
    return ""


def images_at_hand() -> tuple[str, ...]:
    """Return the names of the images that the first engine that answers has, by name."""
    try:
        fleet = connect()
    except LabkitError:
        return ()
    for endpoint in fleet:
        try:
            images = read(endpoint, lambda api: api.images(), 5.0)
        except NO_ANSWER:
            continue
        tags = {tag for image in images for tag in image.get("RepoTags") or ()}
        names = sorted(t.removesuffix(":latest") for t in tags if not t.startswith("<none>"))
        return (*names[:_LISTED], *(["…"] if len(names) > _LISTED else []))
    return ()
