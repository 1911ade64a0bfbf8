"""The agent that looks for security holes and leaked secrets in source code."""

from __future__ import annotations

from fleet.agent import AgentSpec, TokenEstimate
from workers.security_scanner.models import SecurityScanPayload, SecurityScanResult

__all__ = ["SPEC"]

SPEC = AgentSpec(
    agent_type="security_scanner",
    payload=SecurityScanPayload,
    result=SecurityScanResult,
    implementation="workers.security_scanner.agent:SecurityScanner",
    model_task="security_analysis",
    estimate=TokenEstimate(1000, 1500),
    render="workers.security_scanner.view:findings_view",
    exports={"sarif": "workers.security_scanner.sarif:sarif_text"},
    canary={"source": "import os\n", "triage": False},
)
