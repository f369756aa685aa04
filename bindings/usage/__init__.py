from bindings.usage.kind import UsageKind

KIND = UsageKind()

__all__ = ["KIND"]
