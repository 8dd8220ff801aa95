"""The voting app, once for each language of its worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import WORKERS, App, directory


@pytest.fixture(params=sorted(WORKERS))
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    with directory() as place:
        whole = App(place, request.param)
        try:
            whole.start()
            yield whole
        finally:
            whole.end()
            for process in whole.processes:  # shown when the test failed
                if process.log.exists():
                    said = process.log.read_text(errors="replace")
                    print(f"--- {process.log.name}\n{said[-2000:]}")
