"""The chart, rendered once for each values file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import kubernetes_validate.utils
import pytest
from helm_chart import Chart, Rendered, features, values_of


@pytest.fixture(scope="session", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    """Each validation would read the schemas anew."""
    read = cache(kubernetes_validate.utils.schema_contents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", read)
        yield


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart()


@pytest.fixture(scope="session")
def rendered(chart: Chart) -> dict[str, Rendered]:
    """What each values file of `ci/` renders."""
    return {feature: chart.render(values_of(feature)) for feature in features()}
