"""The agent that times several implementations of one thing and says which is faster."""

from __future__ import annotations

from fleet.agent import AgentSpec, TokenEstimate
from workers.performance_tester.models import PerformanceTestPayload, PerformanceTestResult

__all__ = ["SPEC"]

SPEC = AgentSpec(
    agent_type="performance_tester",
    payload=PerformanceTestPayload,
    result=PerformanceTestResult,
    implementation="workers.performance_tester.agent:PerformanceTester",
    model_task="performance_testing",
    estimate=TokenEstimate(800, 1200),
    runs_code=True,
    render="workers.performance_tester.view:timings_view",
    exports={"png": "workers.performance_tester.view:plot_png"},
    canary={"variants": [{"name": "sum", "call": "sum(range(100))"}], "seconds": 1},
)
