"""The named things that a fleet has by default: its pools, request types, providers and models.

The default of every other key stands at the key, in its table's class. A fleet.toml that names a
pool replaces all of these pools, and so with each of these tables.
"""

from __future__ import annotations

from fleet.settings.models import CatalogueModel
from fleet.settings.names import LOCAL
from fleet.settings.providers import Provider
from fleet.settings.routing import AgentType, Pool, RequestType


def agent_types() -> dict[str, AgentType]:
    names = ("code_generator", "security_scanner", "performance_tester")
    return {name: AgentType() for name in names}


def pools() -> dict[str, Pool]:
    return {
        "codegen": Pool(agent_type="code_generator", slots=10, execution="threads", max=4),
        "scanner": Pool(agent_type="security_scanner", slots=2, execution="prefork", max=4),
        # One slot: two measurements at a time would disturb each other.
        "perf": Pool(agent_type="performance_tester", slots=1, execution="prefork", max=2),
    }


def request_types() -> dict[str, RequestType]:
    return {
        "code_generation": RequestType(agent_type="code_generator"),
        "security_analysis": RequestType(agent_type="security_scanner"),
        "performance_test": RequestType(agent_type="performance_tester"),
    }


def compatibility() -> dict[str, dict[str, float]]:
    types = tuple(agent_types())
    rows = {
        "code_generation": (1.0, 0.3, 0.2),
        "security_analysis": (0.4, 1.0, 0.1),
        "performance_test": (0.3, 0.2, 1.0),
    }
    return {name: dict(zip(types, row, strict=True)) for name, row in rows.items()}


def providers() -> dict[str, Provider]:
    google = "https://generativelanguage.googleapis.com/v1beta/openai"
    return {
        "openai": Provider(base_url="https://api.openai.com/v1", key_variable="OPENAI_API_KEY"),
        "anthropic": Provider(
            base_url="https://api.anthropic.com/v1", key_variable="ANTHROPIC_API_KEY"
        ),
        "google": Provider(base_url=google, key_variable="GEMINI_API_KEY"),
    }


def catalogue() -> dict[str, CatalogueModel]:
    return {
        "gpt-5": _model("openai", 0.95, 0.80, 1.0),
        "gpt-4o": _model("openai", 0.90, 0.90, 1.1),
        "claude-opus-4-1": _model("anthropic", 0.92, 0.70, 0.9),
        "claude-sonnet-4-5": _model("anthropic", 0.88, 0.85, 1.0),
        "gemini-2.5-flash": _model("google", 0.85, 0.95, 1.2),
        # Its window of 4096 is not given: where it is the only model it has to try.
        "smollm2-135m-instruct": CatalogueModel(
            provider=LOCAL, quality=0.30, speed=0.60, efficiency=1.0, free=True, region=LOCAL
        ),
    }


def _model(provider: str, quality: float, speed: float, efficiency: float) -> CatalogueModel:
    return CatalogueModel(
        provider=provider,
        quality=quality,
        speed=speed,
        efficiency=efficiency,
        capabilities=("tools", "structured_output", "vision"),
    )
