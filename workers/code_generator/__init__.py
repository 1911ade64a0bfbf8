"""The agent that writes Python code with a language model, and proves it with tests."""

from __future__ import annotations

from fleet.agent import AgentSpec, TokenEstimate
from workers.code_generator.models import CodeGenerationPayload, CodeGenerationResult

__all__ = ["SPEC"]

SPEC = AgentSpec(
    agent_type="code_generator",
    payload=CodeGenerationPayload,
    result=CodeGenerationResult,
    implementation="workers.code_generator.agent:CodeGenerator",
    model_task="code_generation",
    estimate=TokenEstimate(500, 2000),
    runs_code=True,
    render="workers.code_generator.view:code_view",
    canary={
        "instruction": "Write a function add(a, b) that returns the sum of a and b.",
        "tests": "assert add(2, 3) == 5",
    },
)
