"""Wait by looking again: the one loop that every wait of labkit uses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def until(
    look: Callable[[], _T],
    good: Callable[[_T], object] = bool,
    seconds: float = math.inf,
    every: float = 0.2,
) -> _T:
    """Call ``look`` again and again until its answer is good or the time is over.

    Parameters
    ----------
    look
        Asks once. Its exceptions end the wait.
    good
        Judges an answer; by default, its truth.
    seconds
        How long to go on; 0 looks once.
    every
        Seconds between the end of one look and the next.

    Returns
    -------
    object
        The last answer, good or not.
    """
    deadline = time.monotonic() + seconds
    while not good(answer := look()) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(every, left))
    return answer
