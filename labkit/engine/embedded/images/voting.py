"""The images of the course's own voting app, made from its Dockerfiles and sources.

Each is made twice where that tells a story: in February 2020 the official image of PostgreSQL
began to want a password. The voting app's stack file was changed, its programs too, but the
published images of ``worker`` and ``result`` were not rebuilt: they sent no password, and no
vote was counted any more. The course tells it again with images tagged ``before``, built from
the same Dockerfiles and from sources that lack one line. Students repair it as one had to:
rebuild, and point the stack at the new images.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from labkit.engine.embedded.images.model import Image
from labkit.errors import BuildError

# directory of ``notebooks/example-voting-app`` -> file that differs in the ``before`` image
BEFORE = {"worker": "app.py", "worker-lua": "worker.lua", "result": "app.py"}

_IMAGES = {  # name -> directory
    "examplevotingapp_vote:1": "vote",
    "examplevotingapp_result:1": "result",
    "examplevotingapp_worker:1": "worker",
    "examplevotingapp_worker:lua": "worker-lua",
    "examplevotingapp_visualizer:1": "visualizer",
    "examplevotingapp_result:before": "result",
    "examplevotingapp_worker:before": "worker",
    "examplevotingapp_worker:lua-before": "worker-lua",
}
_PACKAGE = Path(__file__).parents[3]
_FROM_ROOT = {"visualizer"}  # built from the course's root: it has labkit's drawing in it


def app() -> Path:
    """Return the directory of the voting app: the checkout's, or the copy in the package."""
    for place in (_PACKAGE.parent / "notebooks", _PACKAGE):
        directory = place / "example-voting-app"
        if (directory / "docker-stack.yml").exists():
            return directory
    raise BuildError(
        "L’application de vote du cours est introuvable (notebooks/example-voting-app).",
        remedy="Installez labkit depuis une copie complète du cours.",
    )


def before(source: str) -> str:
    """Return a program of the voting app as it was before it sent a password: without that line."""
    lines = source.splitlines(keepends=True)
    kept = [line for line in lines if "password" not in line]
    if len(lines) - len(kept) != 1:
        raise BuildError("Le mot de passe n’est pas sur une seule ligne du programme.")
    return "".join(kept)


def voting_images(bases: Mapping[str, Image]) -> tuple[Image, ...]:
    """Return the images of the voting app; ``bases`` are those that a ``FROM`` may name."""
    return tuple(_image(name, directory, bases) for name, directory in _IMAGES.items())


def _image(name: str, directory: str, bases: Mapping[str, Image]) -> Image:
    config: dict[str, Any] = {}
    files: dict[str, str | Path] = {}
    layers: tuple[str, ...] = ()
    for instruction, *words in _instructions(directory):
        match instruction:
            case "FROM":
                base = bases[words[0]]
                layers, config = base.layers, dict(base.config)
            case "WORKDIR":
                config["WorkingDir"] = words[0]
            case "COPY":
                target = PurePosixPath(config["WorkingDir"], words[-1])
                for word in words[:-1]:
                    source = _source(directory, word)
                    files[str(target / source.name).lstrip("/")] = source
            case "ENV":
                config["Env"] = [*config["Env"], *words]
            case "EXPOSE":
                config["ExposedPorts"] = {f"{port}/tcp": {} for port in words}
            case "CMD" | "ENTRYPOINT":
                config[instruction.capitalize()] = json.loads(" ".join(words))
            case "HEALTHCHECK":
                config["Healthcheck"] = _healthcheck(words)
            case "RUN":
                pass  # it installs what the base has already
            case _:
                raise BuildError(f"{directory}/Dockerfile : {instruction} n’est pas prévu ici.")
    if name.endswith("before"):
        path = next(p for p in files if p.endswith(BEFORE[directory]))
        files[path] = before(Path(files[path]).read_text())
    return Image(name, layers, config, "course", files)


def _healthcheck(words: list[str]) -> dict[str, Any]:
    """Return what an image says of ``HEALTHCHECK --start-period=60s CMD ["…"]``; times in ns."""
    at = words.index("CMD")
    times = (word.removeprefix("--").removesuffix("s").split("=") for word in words[:at])
    check = {name.title().replace("-", ""): int(seconds) * 10**9 for name, seconds in times}
    return {"Test": ["CMD", *json.loads(" ".join(words[at + 1 :]))], **check}


def _instructions(directory: str) -> list[list[str]]:
    """Return the instructions of a Dockerfile of the app, as words."""
    text = (app() / directory / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.split() for line in text.splitlines())
    return [words for words in lines if words and not words[0].startswith("#")]


def _source(directory: str, name: str) -> Path:
    """Return the file that a COPY names."""
    if directory not in _FROM_ROOT:
        return app() / directory / name
    path = PurePosixPath(name)
    if path.parts[0] == "labkit":
        return _PACKAGE.joinpath(*path.parts[1:])
    return app().joinpath(*path.parts[2:])  # notebooks/example-voting-app/…
