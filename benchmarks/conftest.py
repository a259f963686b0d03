"""Bundles and a busy neighbour for the benchmarks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bundles import demo, synthetic
from benchmarks.demonstrate_gate import busy_neighbour
from emotag.runtime import Model
from emotag.runtime.errors import ControlError


@pytest.fixture(scope="session", params=["demo", "base"])
def bundle(request: pytest.FixtureRequest) -> Path:
    """The demo, and the base size with random weights."""
    try:
        return demo() if request.param == "demo" else synthetic("base")
    except ControlError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def model(bundle: Path) -> Model:
    """On all cores."""
    return Model.load(bundle, "cpu")


@pytest.fixture(scope="session")
def alone(bundle: Path) -> Model:
    """On one thread, whose processor time is then the whole cost."""
    return Model.load(bundle, "cpu", threads=1)


@pytest.fixture(params=["idle", "busy"])
def neighbour(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether another process keeps a core busy meanwhile."""
    with busy_neighbour() if request.param == "busy" else contextlib.nullcontext():
        yield request.param
