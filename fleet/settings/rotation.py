"""What fleet.toml may say about the rotation of a secret: `[secrets.rotation."PATH"]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from fleet.settings.names import Seconds, Section

RotatorName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name; whether it is installed is checked where the installed ones are known."""
PART = r"[a-z0-9][a-z0-9_.\-]{0,62}"
SecretPath = Annotated[str, StringConstraints(pattern=rf"^{PART}(/{PART}){{0,5}}$")]
DAY = 86_400


class SecretRotation(Section):
    """How the secret at this path is rotated."""

    rotator: RotatorName = Field(
        description="What makes, tests and revokes its versions: generated, http, openai_admin, "
        "anthropic_admin, signing_key, or one that a package brings.",
        examples=["openai_admin"],
    )
    every_days: Annotated[float, Field(gt=0, le=3650)] | None = Field(
        None,
        description="How often beat rotates it, up to a tenth earlier. Left out: by hand only.",
        examples=[30.0],
    )
    grace_seconds: Seconds | None = Field(
        None,
        description="When the previous version is revoked at the latest: at least "
        "limits.task_seconds. Default: limits.task_seconds and a minute.",
        examples=[3600.0],
    )
    revoke: Literal["acknowledged", "grace"] = Field(
        "acknowledged",
        description="acknowledged: revoke the previous version as soon as every live process of "
        "the fleet has acknowledged the new one and no call uses the old one, at the latest after "
        "the grace. grace: not before the grace has ended, for a secret that programs outside the "
        "fleet read too.",
    )
    set: SecretPath | None = Field(
        None,
        description="Of the secrets with the same set, one is rotated at a time. Default: the path "
        "without its last part.",
        examples=["providers/openai"],
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="What the rotator needs: see docs/secrets.md."
    )

    def set_of(self, path: str) -> str:
        """The set of a path."""
        return self.set or path.rpartition("/")[0] or path
