"""Drawing 20,000 to 120,000 Gaussians: processor time must grow linearly or better."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.scaling import COUNTS, SLACK, measure_counts, worst_growth


@pytest.mark.benchmark(group="drawing by number of Gaussians")
def test_cost_grows_linearly_or_better(benchmark: Any) -> None:
    found: list[dict[int, float]] = []
    benchmark.pedantic(lambda: found.append(measure_counts()), rounds=1)
    benchmark.extra_info["ms"] = {str(count): found[0][count] for count in COUNTS}
    assert worst_growth(found[0]) <= SLACK, found[0]
