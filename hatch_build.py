"""Puts the notebooks into the wheel, without what git ignores: students' files, and passwords."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Notebooks(BuildHookInterface[Any]):
    """Adds each file of ``notebooks`` below ``labkit``, where labkit.course looks for it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable installation finds them in the checkout."""
        root = Path(self.root)
        for path in (root / "notebooks").rglob("*") if version == "standard" else ():
            name = path.relative_to(root).as_posix()
            if path.is_file() and not self.build_config.path_is_excluded(name):
                build_data["force_include"][str(path)] = f"labkit/{name}"
