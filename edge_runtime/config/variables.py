"""What `env` holds besides bindings: the vars of the wrangler file, and the secrets beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.config.decode import decode, warn
from edge_runtime.config.dev_vars import read_dev_vars
from edge_runtime.config.environments import Settings
from edge_runtime.config.model import Binding, JsonValue, Secret, Where
from edge_runtime.errors import ConfigError
from edge_runtime.limits import VAR_BYTES_MAX, VARS_MAX


class _Secrets(msgspec.Struct, frozen=True):
    required: list[str] | None = None


def read_variables(
    settings: Settings, root: Path, environment: str | None, bindings: Sequence[Binding]
) -> tuple[dict[str, JsonValue], dict[str, Secret]]:
    """The vars, less those that a secret of the same name overrides, and the secrets.

    Raises:
        ConfigError: too many or too large, or a name that a binding has.
    """
    where = settings.where / "vars"
    written: dict[str, JsonValue] = decode(settings.values.get("vars", {}), dict[str, Any], where)
    secrets = _secrets(settings, root, environment)
    variables = {name: value for name, value in written.items() if name not in secrets}
    kinds = {binding.name: binding.kind for binding in bindings if binding.name}
    for name, value in variables.items():
        _check(name, value if isinstance(value, str) else json.dumps(value), kinds, where / name)
    for name, secret in secrets.items():
        _check(name, secret, kinds, Where(str(root), f"the secret {name}"))
    count = len(variables) + len(secrets)
    if count > VARS_MAX:
        raise ConfigError(where.file, where.at, f"{count} vars and secrets", f"at most {VARS_MAX}")
    return variables, secrets


def _secrets(settings: Settings, root: Path, environment: str | None) -> dict[str, Secret]:
    dot_env = os.environ.get("CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV", "").lower() != "false"
    found = dict(read_dev_vars(root, environment, dot_env=dot_env))
    where = settings.where / "secrets"
    required = decode(settings.values.get("secrets", {}), _Secrets, where).required
    if required is None:
        return found
    for name in required:
        if name not in found:
            warn(where / "required", f"the secret {name} has no value in .dev.vars, so env.{name} will be missing")
    return {name: value for name, value in found.items() if name in required}


def _check(name: str, text: str, kinds: dict[str, str], where: Where) -> None:
    if name in kinds:
        raise ConfigError(where.file, where.at, f"the name of a binding ({kinds[name]})", "one thing of each name")
    size = len(text.encode())
    if size > VAR_BYTES_MAX:
        raise ConfigError(where.file, where.at, f"{size} bytes", f"at most {VAR_BYTES_MAX} bytes")
