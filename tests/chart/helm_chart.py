"""Helm 4, as a library: renders and lints the chart without a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml
from manifests import Manifest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fleet"
CI = CHART / "ci"
RELEASE, NAMESPACE = "fleet", "agents"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one set of values renders."""

    manifests: Sequence[Manifest]
    notes: str

    def of(self, kind: str) -> list[Manifest]:
        return [each for each in self.manifests if each["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (found,) = self.of(kind)
        return found

    def named(self, kind: str, name: str) -> Manifest:
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    @property
    def toml(self) -> str:
        return str(self.one("ConfigMap")["data"]["fleet.toml"])


class Chart:
    """The chart, loaded once."""

    def __init__(self) -> None:
        self._chart = helm_python.Chart.load(CHART)

    def render(self, values: Mapping[str, Any]) -> Rendered:
        files = self._chart.render(dict(values), name=RELEASE, namespace=NAMESPACE)
        notes = files.pop("fleet/templates/NOTES.txt")
        documents = (
            document
            for text in files.values()
            for document in yaml.load_all(text, Loader=yaml.CSafeLoader)
        )
        return Rendered([each for each in documents if each], notes)

    def refusal(self, values: Mapping[str, Any]) -> str:
        """Why values are refused. An error if they are not."""
        try:
            self.render(values)
        except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
            return str(error)
        raise AssertionError("these values are accepted")

    def lint(self, values: Mapping[str, Any]) -> list[str]:
        """What `helm lint --strict` warns of."""
        report = helm_python.lint(CHART, dict(values), strict=True, namespace=NAMESPACE)
        found = [each["error"] for each in report["messages"] if each["severity"] > 1]
        return [*found, *report["errors"]]


def values_of(feature: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CI / f"{feature}-values.yaml").read_text())
    return found


def features() -> list[str]:
    return sorted(path.name.removesuffix("-values.yaml") for path in CI.glob("*-values.yaml"))
