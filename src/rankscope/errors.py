"""What can go wrong, as a tree. Knows nothing about any other module.

::

    RankscopeError            base class; exit code 1
    |-- InputError            the user's input is wrong; exit code 2
    |   |-- ConfigError       a study file: unknown key, wrong type, impossible value
    |   |-- DataError         a dataset: missing, empty, unreadable, a row that makes no sense
    |   |-- ModelError        a model or adapter: missing, unsupported, unmatched targets
    |   |   |-- HubUnreachable    it is not here, and the hub can't be asked
    |   |   `-- DamagedWeights    stored weights that can't be read, don't fit, or are not finite
    |   `-- PluginError       no plug-in of that name, or one that breaks its contract
    |-- StoreError            the store: in use, full disk, newer schema; exit code 2
    `-- RunFailed             one run failed (diverged, out of memory): becomes a row; exit code 1

Every message says what, got, where and the next command, in that order, as far as each applies.
"""

from __future__ import annotations


class RankscopeError(Exception):
    """Base of all errors that rankscope raises on purpose.

    ``what`` is the sentence; ``got``, ``where`` and ``hint`` are optional parts of the message.
    """

    exit_code = 1

    def __init__(self, what: str, *, got: object = None, where: str | None = None, hint: str | None = None):
        self.what, self.got, self.where, self.hint = what, got, where, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.got is not None:
            text += f" (got {self.got!r})"
        if self.hint:
            text += (" " if text.endswith((".", "?")) else ". ") + self.hint
        return text


class InputError(RankscopeError):
    """The user's input is wrong; nothing was written."""

    exit_code = 2


class ConfigError(InputError):
    """A study file that can't be used as it stands."""


class DataError(InputError):
    """A dataset that is missing, empty or unreadable, or a row that makes no sense."""


class ModelError(InputError):
    """A model or adapter that is missing, unsupported or doesn't fit."""


class HubUnreachable(ModelError):
    """A hub model that is not in the local cache, while the hub can't be asked (no network, or offline on purpose)."""


class DamagedWeights(ModelError):
    """Weights of a run that can't be used: unreadable, of other names or shapes than the base, or not finite."""


class PluginError(InputError):
    """No plug-in of that name, or one that breaks its contract."""


class StoreError(RankscopeError):
    """The store can't be used: locked by another process, disk full, newer schema."""

    exit_code = 2


class NoStore(StoreError):
    """There is no store in this folder, or one that was never finished being made."""


class RunFailed(RankscopeError):
    """One run failed. The runner turns it into a row with ``stage`` and message; it is never a zero."""

    def __init__(self, what: str, *, stage: str, **parts):
        self.stage = stage
        super().__init__(what, **parts)
