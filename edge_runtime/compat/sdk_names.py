"""What scripts import as `workers.utils`."""

from __future__ import annotations

from edge_runtime.workers.environment import patch_env
from edge_runtime.workers.javascript_modules import import_from_javascript

__all__ = ["import_from_javascript", "patch_env"]
