"""Wait by looking again: the one loop that every wait of labkit uses."""

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
    """Call ``look`` until its answer is good or the ``seconds`` are over; return the last answer.

    An answer is good if it is true, unless ``good`` judges it. Exceptions of ``look`` end the wait;
    0 seconds look once. ``every`` is the time between the end of one look and the next.
    """
    deadline = time.monotonic() + seconds
    while not good(answer := look()) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(every, left))
    return answer
