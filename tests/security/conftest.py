"""Fixtures of the attacks: real accounts on this machine, one of which attacks the other."""

from __future__ import annotations

import os
from collections.abc import Iterator

import accounts
import pytest
from accounts import Account


@pytest.fixture(scope="session")
def able() -> None:
    """Skip, and say so, where no account can be made; in CI, fail."""
    reason = accounts.missing()
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture
def student(able: None) -> Iterator[Account]:
    with accounts.account() as made:
        yield made


@pytest.fixture
def neighbour(able: None) -> Iterator[Account]:
    with accounts.account() as made:
        yield made
