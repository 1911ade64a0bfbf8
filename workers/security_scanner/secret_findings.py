"""detect-secrets, run as a library over one file of any kind, without network access.

Its settings are global to the process, so only one scan at a time may set them. Its own
`SecretsCollection` is not used: it starts processes, which a pool's child may not do, and keeps
only one place of each secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.potential_secret import PotentialSecret
from detect_secrets.core.scan import scan_file
from detect_secrets.filters import heuristic
from detect_secrets.settings import transient_settings

from workers.security_scanner.hits import Hit, SourceFile
from workers.security_scanner.models import GRADES, Grade

HARD_CODED_CREDENTIALS = 798

# Severity and confidence. A key of a known shape is certain; a name such as `password`
# beside a string is likely; a string that merely looks random may be a checksum.
_GRADES: dict[str, tuple[Grade, Grade]] = {
    "KeywordDetector": ("high", "medium"),
    "Base64HighEntropyString": ("medium", "low"),
    "HexHighEntropyString": ("medium", "low"),
    "IPPublicDetector": ("low", "low"),
}
_KNOWN_SHAPE: tuple[Grade, Grade] = ("high", "high")
_NO_CREDENTIAL = frozenset({"IPPublicDetector"})

_settings_lock = Lock()


def scan_for_secrets(source: SourceFile) -> list[Hit]:
    """Run every plugin of detect-secrets: one hit for each place of each secret."""
    with _settings_lock, transient_settings(_settings()), _searchable(source) as path:
        rules = {kind: plugin.__name__ for kind, plugin in _plugins().items()}
        hits = [_hit(secret, rules[secret.type], source) for secret in scan_file(path)]
    return _surest_of_each_place(hits)


@contextmanager
def _searchable(source: SourceFile) -> Iterator[str]:
    """The path of the file, or of a copy with cut lines. The name shows the kind of file."""
    if not source.long_lines:
        yield source.path
        return
    with TemporaryDirectory(prefix="fleet-scan-") as folder:
        copy = Path(folder) / Path(source.path).name
        copy.write_text(source.cut_text(), encoding="utf-8")
        yield str(copy)


def passes_over(source: SourceFile) -> str | None:
    """Why detect-secrets would silently skip this file; None if it would not."""
    kinds = {
        "a kind of file that it takes for binary": heuristic.is_non_text_file(source.path),
        "a lock file, whose checksums look like secrets": heuristic.is_lock_file(source.path),
        "a Swagger file": heuristic.is_swagger_file(source.path),
        "not UTF-8 text": not source.is_utf8,
    }
    return next((f"detect-secrets: {kind}" for kind, holds in kinds.items() if holds), None)


def _plugins() -> dict[str, Any]:
    return dict(get_mapping_from_secret_type_to_class())


def _settings() -> dict[str, Any]:
    """All plugins and the default filters, which verify nothing and so open no socket."""
    return {"plugins_used": [{"name": plugin.__name__} for plugin in _plugins().values()]}


def _hit(secret: PotentialSecret, rule: str, source: SourceFile) -> Hit:
    severity, confidence = _GRADES.get(rule, _KNOWN_SHAPE)
    credential = rule not in _NO_CREDENTIAL
    return Hit(
        tool="detect-secrets",
        rule=rule,
        title=secret.type,
        severity=severity,
        confidence=confidence,
        cwe=HARD_CODED_CREDENTIALS if credential else None,
        file=source.name,
        line=secret.line_number,
        message=f"{secret.type} in the source; {_advice(credential)}.",
        source_line=source.shown(secret.line_number),
        secrets=(secret.secret_value or "",),
    )


def _advice(credential: bool) -> str:
    if credential:
        return "take it out and have its issuer revoke it"
    return "keep addresses in the configuration"


def _surest_of_each_place(hits: list[Hit]) -> list[Hit]:
    """If several plugins find one secret, keep the hit with the highest confidence."""
    best: dict[tuple[int, tuple[str, ...]], Hit] = {}
    for hit in sorted(hits, key=lambda hit: (-GRADES.index(hit.confidence), hit.rule)):
        best.setdefault((hit.line, hit.secrets), hit)
    return sorted(best.values(), key=lambda hit: hit.line)
