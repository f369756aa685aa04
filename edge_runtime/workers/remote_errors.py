"""Errors as the other side of a call sees them."""

from __future__ import annotations

import traceback

from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.workflows import NonRetryableError


def remote_error(error: BaseException) -> Exception:
    """The error as the other side of an RPC call sees it, with `.remote` set.

    TypeError, ValueError and NonRetryableError keep their class and message; errors that JavaScript would have thrown
    stay what they are; of any other only the traceback text arrives, as on Cloudflare.
    """
    seen: Exception
    if isinstance(error, JsException):
        seen = JsException(error.message, error.name)
        seen.__dict__.update(error.__dict__)
    else:
        for kept in (NonRetryableError, TypeError, ValueError):
            if isinstance(error, kept):
                seen = kept(str(error))
                break
        else:
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            seen = JsException("".join(lines), "PythonError")
    setattr(seen, "remote", True)  # noqa: B010 - an attribute that no class here declares
    return seen


def seen_by_caller(error: BaseException) -> Exception:
    """The error as callers of an object get it: TypeError, ValueError and NonRetryableError keep their class, of any
    other only the message arrives (another object's reset included: this object was not reset). `remote` says where it
    came from."""
    if isinstance(error, (TypeError, ValueError, NonRetryableError, JsException)):
        return remote_error(error)
    seen = Exception(str(error) or type(error).__name__)
    seen.__dict__["remote"] = True
    return seen
