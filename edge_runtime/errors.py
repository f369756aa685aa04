"""Errors, grouped by who must act.

An error says what was attempted, on which id, what was found, what is allowed and what to do. Control flow
(suspension, eviction) derives from BaseException elsewhere, so that a script's `except Exception` cannot swallow it.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Root of the errors this runtime raises on purpose; never raised itself."""


class UsageError(EdgeError):
    """The script's author or the person at the command line must change something."""


class ConfigError(UsageError):
    """A configuration value is wrong.

    `file` and `at` (a dotted key path, "" for the whole file) say where.
    """

    def __init__(self, file: str, at: str, found: str, allowed: str) -> None:
        self.file, self.at, self.found, self.allowed = file, at, found, allowed
        place = f"{file}: {at}" if at else file
        super().__init__(f"{place}: found {found}; allowed: {allowed}")


class ScriptError(UsageError):
    """The worker script cannot be loaded or lacks a class that its configuration names.

    `detail` is the script's own traceback, shown in development only; `cpu_us` what it used before it failed.
    """

    def __init__(self, message: str, detail: str = "", cpu_us: int = 0) -> None:
        self.detail = detail
        self.cpu_us = cpu_us
        super().__init__(message)


class StartInterrupted(ScriptError):
    """A process of the worker was ended from outside while it started, as when memory runs out: nothing is said about
    the script, and the next start may succeed."""


class LimitExceeded(EdgeError):
    """A bound from `limits` was passed; the caller must send less."""

    def __init__(self, limit: str, used: int, allowed: int, unit: str) -> None:
        self.limit, self.used, self.allowed, self.unit = limit, used, allowed, unit
        super().__init__(f"{limit}: {used} {unit} used, {allowed} {unit} allowed")


class CpuLimitExceeded(BaseException):
    """The event has used its CPU time. Raised inside of its code: `finally` runs, `except Exception` does not see it.

    The name and the text are Cloudflare's; code that goes on all the same gets it again, and is then killed.
    """

    def __init__(self, message: str = "Worker exceeded CPU time limit.") -> None:
        super().__init__(message)


class StoreError(EdgeError):
    """The operator must act: the data directory cannot be used as it is."""


class StoreCorrupt(StoreError):
    """A record on disk does not read back as written."""


class StoreFull(StoreError):
    """The disk has no room for a batch; nothing of it was written. Later commits succeed once there is space again."""


class StoreFailed(StoreError):
    """A commit failed. Nothing of the batch may be acknowledged, and the process that saw it must end."""


class DataDirectoryInUse(StoreError):
    """Another server holds the data directory; `pid` is the holder (0 if unknown)."""

    def __init__(self, path: str, pid: int) -> None:
        self.path, self.pid = path, pid
        super().__init__(
            f"cannot start on data directory {path}: the running process {pid} holds it; "
            "stop that process or choose another directory with --data"
        )


class Conflict(EdgeError):
    """A batch expected a stored value that is not there; nothing of the batch was written. Retry from a new read."""


class ActorBroken(EdgeError):
    """The actor was reset; this call did not complete. A new stub reaches a new activation.

    The flags are those Cloudflare puts on errors seen by callers of a Durable Object.
    """

    def __init__(self, message: str, *, retryable: bool = True, overloaded: bool = False, reset: bool = True) -> None:
        self.remote = True
        self.retryable = retryable
        self.overloaded = overloaded
        self.durableObjectReset = reset
        super().__init__(message)

    def again(self) -> ActorBroken:
        """The same for one more caller: each raise adds to an error's traceback, so none is shared for ever."""
        fresh = ActorBroken(str(self))
        vars(fresh).update(vars(self))
        return fresh


class ConnectionLost(ActorBroken):
    """The isolate that an actor lives in ended while it had this call; whether it was carried out is unknown."""

    def __init__(self) -> None:
        super().__init__("Network connection lost.", reset=False)

    def again(self) -> ConnectionLost:
        fresh = ConnectionLost()
        vars(fresh).update(vars(self))
        return fresh


class WireError(EdgeError):
    """Bytes from another process are not a frame of ours; the connection they came on must be closed."""
