"""The embedded machine: several Docker Engines in one virtual machine of an ordinary user.

- ``build`` makes the machine's files from Debian packages, ``images`` what its containers run,
  ``guest`` is the shell inside it; ``snapshot`` boots it once and freezes it.
- ``machine`` looks once for all that a cluster starts from, and starts one;
  ``cluster`` is the life of the user's: up, reset, down, add, remove.
- ``driver`` is the seam under the machine, ``qemu`` the driver: nobody else knows its words.
- ``keeper`` is the process beside it: published ports, the way out (``online``, ``egress``), the
  clock and the logs (``upkeep``), and the end (``lifetime``).
- ``faults`` and ``logs`` are what students do to its nodes; ``record`` and ``status`` what runs.
"""
