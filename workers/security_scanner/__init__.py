"""The agent that looks for security holes and leaked secrets in source code."""

from __future__ import annotations

from fleet.agent import AgentSpec
from workers.security_scanner.models import SecurityScanPayload, SecurityScanResult

__all__ = ["SPEC"]

SPEC = AgentSpec(
    agent_type="security_scanner",
    payload=SecurityScanPayload,
    result=SecurityScanResult,
    implementation="workers.security_scanner.agent:SecurityScanner",
)
