"""Start a program on one processor that reaches few files and no network: Landlock.

``python -I -S confined.py PROCESSOR READ:READ… WRITE:WRITE… PROGRAM ARGUMENT…``. A kernel in which
a container broke through its walls is still a program of the student's account: this is the wall
behind it. Where this host's kernel knows no Landlock, the program starts without.
"""

import ctypes
import os
import struct
import sys

CREATE, ADD, RESTRICT = 444, 445, 446  # the calls of landlock(7), the same on all processors
PATH_BENEATH = 1
NO_NEW_PRIVILEGES = 38
EXECUTE, WRITE, READ, READ_DIRECTORY = 1, 2, 4, 8
# version of Landlock -> all rights over files that it knows
FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NETWORK = 0b11  # to bind and to connect, from version 4
SCOPES = 0b11  # abstract sockets and signals of others, from version 6

libc = ctypes.CDLL(None, use_errno=True)


def landlock() -> int:
    """Return the version of Landlock that this host's kernel has; 0 or less for none."""
    return int(libc.syscall(CREATE, None, 0, 1))


def confine(read: list[str], write: list[str]) -> bool:
    """Take from this process, for good, all files but these; tell whether that worked."""
    version = landlock()
    if version < 1:
        return False
    files = max((v, rights) for v, rights in FILES.items() if v <= version)[1]
    rules = struct.pack("QQQ", files, NETWORK * (version >= 4), SCOPES * (version >= 6))
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(CREATE, rules, size, 0)
    looks = EXECUTE | READ | READ_DIRECTORY
    for paths, rights in ((read, looks), (write, files)):
        for path in paths:
            place = os.open(path, os.O_PATH)
            if not os.path.isdir(path):  # noqa: PTH112 (pathlib takes long to import)
                rights &= EXECUTE | WRITE | READ
            libc.syscall(ADD, ruleset, PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
            os.close(place)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done = bool(libc.syscall(RESTRICT, ruleset, 0) == 0)
    os.close(ruleset)
    return done


def main() -> None:
    """Start the program of the command line in place of this one."""
    processor, read, write, *command = sys.argv[1:]
    os.sched_setaffinity(0, {int(processor)})
    confine(read.split(":"), write.split(":"))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
