"""How much LoRA rank is too much, for your model and your data? The public names, each imported when first used.

``import rankscope`` itself loads nothing heavy: no torch, no pydantic, no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankscope.errors import (
        ConfigError,
        DataError,
        InputError,
        ModelError,
        PluginError,
        RankscopeError,
        RunFailed,
        StoreError,
    )
    from rankscope.study.audit import audit
    from rankscope.study.result import StudyResult
    from rankscope.study.study import Study, score

__version__ = "0.1.0"

_HOMES = {
    "Study": "rankscope.study.study",
    "StudyResult": "rankscope.study.result",
    "score": "rankscope.study.study",
    "audit": "rankscope.study.audit",
    "RankscopeError": "rankscope.errors",
    "InputError": "rankscope.errors",
    "ConfigError": "rankscope.errors",
    "DataError": "rankscope.errors",
    "ModelError": "rankscope.errors",
    "PluginError": "rankscope.errors",
    "StoreError": "rankscope.errors",
    "RunFailed": "rankscope.errors",
}

__all__ = [
    "ConfigError",
    "DataError",
    "InputError",
    "ModelError",
    "PluginError",
    "RankscopeError",
    "RunFailed",
    "StoreError",
    "Study",
    "StudyResult",
    "__version__",
    "audit",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rankscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
