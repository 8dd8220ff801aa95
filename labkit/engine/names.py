"""Let ``curl`` know the nodes by name: no resolver of an ordinary account does."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from labkit.engine.endpoint import UDP, Endpoint
from labkit.files import replacing

FILE = ".curlrc"  # in the directory that CURL_HOME names


def write_names(
    folder: Path, nodes: Iterable[Endpoint], elsewhere: Mapping[tuple[str, int], int] | None = None
) -> None:
    """Write a configuration of curl in which each node's name leads to its address.

    ``elsewhere`` gives the port of this machine for a (node, published port), where that is
    another. The student's own configuration holds, too; there is no progress meter, which a
    notebook would keep.
    """
    lines = ["silent", "show-error"]
    with suppress(OSError, RuntimeError):  # no home, or one that cannot be read
        own = Path(f"~/{FILE}").expanduser()
        if own.is_file():
            escaped = str(own).replace("\\", "\\\\").replace('"', '\\"')
            lines.insert(0, f'config = "{escaped}"')
    for node in nodes:
        address = f"[{node.address}]" if ":" in node.address else node.address
        for (name, port), at in sorted((elsewhere or {}).items()):
            if name == node.name and port != at and port < UDP:
                lines.append(f'connect-to = "{name}:{port}:{address}:{at}"')
        lines.append(f'connect-to = "{node.name}::{address}:"')
    folder.mkdir(mode=0o700, exist_ok=True)
    with replacing(folder / FILE) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
