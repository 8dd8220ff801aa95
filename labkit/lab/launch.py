"""``labkit lab``: JupyterLab in front, the cluster behind it."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from labkit import engine
from labkit.engine import external
from labkit.engine.contexts import activate
from labkit.engine.embedded import cluster, snapshot
from labkit.engine.embedded.ownership import no_link
from labkit.engine.embedded.processes import alive
from labkit.engine.embedded.settings import Settings
from labkit.engine.progress import Report

FOLDER = "cours-swarm"
START_PAGE = "00-demarrer.ipynb"


def open_course() -> Path:
    """Return the folder that JupyterLab opens: this one if it holds the course, else one in it.

    The student's edition is written there, or brought up to date; the corrected one stays as it is.
    """
    from labkit.course import edition, write

    here = Path.cwd()
    folder = here if (here / START_PAGE).exists() else here / FOLDER
    if edition(folder) == "étudiant" or not (folder / START_PAGE).exists():
        for written in write(folder):
            if written.what == "mis à jour" or written.kept:
                print(written)
    return folder


def launch(settings: Settings, arguments: Sequence[str]) -> int:
    """Run JupyterLab in front and the cluster behind it; return JupyterLab's status.

    Both end together, unless the cluster was there before, or another Lab has it.
    """
    from labkit.workspace import OPTION, prepare

    starting = labs = None
    if named := external.named():
        engine.up()
        nodes = [endpoint.name for endpoint in named]
    else:
        with Report() as report:
            snapshot.build(settings, report)
        labs = Labs(settings)
        # not in /tmp, where another account may have put a link of this name
        said = settings.state / f"{settings.cluster}.up.log"
        with open(said, "w", opener=no_link) as log:
            starting = subprocess.Popen(
                [sys.executable, "-P", "-m", "labkit", "up", "--nodes", str(settings.nodes)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            )  # fmt: skip
        activate(cluster.variables(settings))
        nodes = [f"node{number}" for number in range(1, settings.nodes + 1)]
    root = open_course()
    command = [sys.executable, "-P", "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    command.append(f"--LabApp.app_settings_dir={Path(__file__).resolve().parent}")
    if os.geteuid() == 0:
        command.append("--allow-root")
    command += [f"--LabApp.default_url={prepare(START_PAGE, nodes)}", OPTION]
    command += arguments
    lab = subprocess.Popen(command, cwd=root)  # where its terminals open
    # Ctrl-C reaches JupyterLab, which asks; a SIGTERM is passed on. Here, only wait.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: lab.terminate())
    status = lab.wait()
    if starting and labs:
        starting.wait()
        said.unlink(missing_ok=True)
        labs.leave()
    return status


class Labs:
    """All ``labkit lab`` of a cluster: it ends with the last, unless it was there before the first.

    Each holds a file's lock together with the others; who can have it alone is the first, or last.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.path = settings.state / f"{settings.cluster}.labs"
        self.file = open(self.path, "a+", opener=no_link)  # noqa: SIM115
        if self._alone():
            self.file.truncate(0)
            self.file.write("found" if alive(settings.run) else "started")
            self.file.flush()
        fcntl.flock(self.file, fcntl.LOCK_SH)

    def leave(self) -> None:
        """End the cluster if this is the last; say so if it stays."""
        with self.file:
            if not self._alone():
                print("Un autre « labkit lab » se sert du cluster : il tourne encore.")
                return
            self.path.unlink(missing_ok=True)
            self.file.seek(0)
            started = self.file.read() == "started"
        if started:
            cluster.down(self.settings)
        else:
            print("Le cluster, qui tournait déjà avant, tourne encore : « labkit down » l’arrête.")

    def _alone(self) -> bool:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
