"""The chart, rendered once for each values file."""

from __future__ import annotations

import pytest
from helm_chart import Chart, Rendered, features, values_of


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart()


@pytest.fixture(scope="session")
def rendered(chart: Chart) -> dict[str, Rendered]:
    """What each values file of `ci/` renders."""
    return {feature: chart.render(values_of(feature)) for feature in features()}
