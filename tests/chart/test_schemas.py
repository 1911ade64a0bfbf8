"""Every object fits the schema of its kind, of two versions of Kubernetes and of operators."""

from __future__ import annotations

import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from helm_chart import CHART, ROOT, Rendered

VERSIONS = ("1.31", "1.37")
SCHEMAS = ROOT.parent / "shared" / "schemas"
CUSTOM = ("keda.sh", "istio.io", "coreos.com", "external-secrets.io")


def is_custom(manifest: dict[str, Any]) -> bool:
    return manifest["apiVersion"].partition("/")[0].endswith(CUSTOM)


def shape(found: Any) -> Any:
    """Fields and the types of their values: what a schema of Kubernetes looks at."""
    if isinstance(found, dict):
        return tuple((name, shape(value)) for name, value in sorted(found.items()))
    if isinstance(found, list):
        return frozenset(shape(value) for value in found)
    return type(found)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(rendered: dict[str, Rendered], version: str) -> None:
    seen = set()
    for name, each in rendered.items():
        for manifest in each.manifests:
            # Each validation reads the schema anew, so objects of one shape are checked once.
            if not is_custom(manifest) and shape(manifest) not in seen:
                seen.add(shape(manifest))
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    where = "/".join(map(str, error.path))
                    pytest.fail(f"{name}: {manifest['kind']} {where}: {error.message}")
    assert len(seen) > 30


@cache
def schema_of(path: Path) -> Any:
    return jsonschema.Draft7Validator(json.loads(path.read_text()))


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"the schemas are not in {SCHEMAS}")
def test_custom_resources_fit_their_schemas(rendered: dict[str, Rendered]) -> None:
    kinds = set()
    for each in rendered.values():
        for manifest in each.manifests:
            if is_custom(manifest):
                group, _, version = manifest["apiVersion"].partition("/")
                path = SCHEMAS / group / f"{manifest['kind'].lower()}_{version}.json"
                faults = [
                    f"{manifest['kind']} {'/'.join(map(str, error.path))}: {error.message}"
                    for error in schema_of(path).iter_errors(manifest)
                ]
                assert faults == []
                kinds.add(manifest["kind"])
    assert kinds == {
        *("AuthorizationPolicy", "DestinationRule", "PeerAuthentication"),
        *("ScaledJob", "ScaledObject", "TriggerAuthentication"),
        *("PrometheusRule", "ServiceMonitor", "ExternalSecret"),
    }


def unknown_fields(schema: Any, found: Any, path: str) -> list[str]:
    """Fields that a schema does not name. The API server would drop them without a word."""
    if isinstance(found, list):
        items = schema.get("items", {})
        return [f for each in found for f in unknown_fields(items, each, f"{path}[]")]
    known = schema.get("properties")
    if not isinstance(found, dict) or known is None:
        return []
    return [
        fault
        for name, value in found.items()
        for fault in (
            unknown_fields(known[name], value, f"{path}.{name}")
            if name in known
            else [f"{path}.{name}"]
        )
    ]


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"the schemas are not in {SCHEMAS}")
def test_custom_resources_have_no_field_that_is_dropped(rendered: dict[str, Rendered]) -> None:
    for each in rendered.values():
        for manifest in filter(is_custom, each.manifests):
            group, _, version = manifest["apiVersion"].partition("/")
            path = SCHEMAS / group / f"{manifest['kind'].lower()}_{version}.json"
            assert (
                unknown_fields(
                    schema_of(path).schema["properties"]["spec"], manifest["spec"], path.stem
                )
                == []
            )


def test_schema_and_readme_are_as_generated() -> None:
    generate = runpy.run_path(str(ROOT / "charts" / "generate.py"))
    again = "run python charts/generate.py"
    assert (CHART / "values.schema.json").read_text() == generate["schema"](), again
    assert (CHART / "README.md").read_text() == generate["readme"](), again


def test_every_value_is_described() -> None:
    text = (CHART / "README.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| .* \| (.*) \|$", text, re.MULTILINE))
    assert len(rows) > 80
    assert [key for key, meaning in rows.items() if len(meaning) < 10] == []


def test_the_schema_is_one_that_helm_can_use() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "global" in schema["properties"]
    assert schema["additionalProperties"] is False
    # Helm's regular expressions have no look-ahead.
    patterns = re.findall(r'"pattern": "(.*)"', (CHART / "values.schema.json").read_text())
    assert [each for each in patterns if "(?" in each] == []


def test_every_value_has_a_place_in_the_schema() -> None:
    from ruamel.yaml import YAML

    schema = json.loads((CHART / "values.schema.json").read_text())
    values = YAML(typ="safe").load((CHART / "values.yaml").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(json.loads(json.dumps(values)))
