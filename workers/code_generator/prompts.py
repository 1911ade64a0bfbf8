"""The prompts. Their words are tuned for small models, which copy what they see."""

from __future__ import annotations

from workers.code_generator.models import Attempt, CodeGenerationPayload

INSTRUCTIONS = "You write Python. Reply with one python code block only."


def first_prompt(payload: CodeGenerationPayload) -> str:
    parts = [payload.instruction]
    if payload.function:
        parts.append(f"It must be named {payload.function}.")
    if payload.tests:
        parts.append(f"The code must pass these tests:\n```python\n{payload.tests.strip()}\n```")
    return "\n\n".join(parts)


def next_prompt(payload: CodeGenerationPayload, failed: Attempt) -> str:
    """The task again, with the failure of the last attempt."""
    told = (
        f"This code is wrong:\n```python\n{failed.code.strip()}\n```\nIt failed: {failed.message}"
    )
    return f"{first_prompt(payload)}\n\n{told}\nWrite it again, correctly."
