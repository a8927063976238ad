"""``nnx doctor``: what is here, what could be better, what is missing; as lines and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from toolchain import __version__
from toolchain.doctor import facts
from toolchain.doctor.checks import MISSING, OK, WARN, Check, judge
from toolchain.errors import NotAvailable
from toolchain.legible import hanging

SCHEMA_VERSION = 1
GLYPHS = {OK: "✓", WARN: "!", MISSING: "✗"}
_STATUS_WIDTH = max(map(len, GLYPHS))


def diagnose() -> tuple[Check, ...]:
    """Look at this machine and judge it; about a second, a few more where there is CUDA to start."""
    return judge(facts.read())


def require_essentials(checks: Sequence[Check]) -> None:
    """Raise NotAvailable when something is missing that nnx cannot do without."""
    missing = [check.name for check in checks if check.status == MISSING]
    if missing:
        raise NotAvailable(f"Missing: {', '.join(missing)}.", "Mend what is marked, then run `nnx doctor` again.")


def to_json(checks: Sequence[Check], host: str | None = None) -> str:
    """All checks, and the worst status among them; of another machine with its address."""
    worst = max((check.status for check in checks), key=list(GLYPHS).index, default=OK)
    content = {
        "schema_version": SCHEMA_VERSION,
        "nnx": __version__,
        **({} if host is None else {"host": host}),
        "status": worst,
        "checks": [asdict(check) for check in checks],
    }
    return json.dumps(content, indent=2) + "\n"


def lines(checks: Sequence[Check], width: int | None = None) -> list[str]:
    """A line a check for a pipe; for a terminal ``width`` columns wide, broken between words under its own column."""
    name_width = max(len(check.name) for check in checks)
    drawn = []
    for check in checks:
        start = f"{GLYPHS[check.status]} {check.status:<{_STATUS_WIDTH}}  {check.name:<{name_width}}  "
        mend = [f"→ {check.mend}"] if check.mend else []
        if width is None:
            drawn.append(start + " ".join([check.found, *mend]))
        else:
            drawn += hanging(start, [check.found, *mend], width)
    return [*drawn, "", summary(checks)]


def summary(checks: Sequence[Check]) -> str:
    """One sentence on the whole."""
    warnings = sum(check.status == WARN for check in checks)
    missing = sum(check.status == MISSING for check in checks)
    warned = f"{warnings} warning{'' if warnings == 1 else 's'}" if warnings else "no warning"
    count = f"{len(checks)} check{'' if len(checks) == 1 else 's'}"
    return f"{count}: {f'{missing} missing' if missing else 'nothing is missing'}, {warned}."
