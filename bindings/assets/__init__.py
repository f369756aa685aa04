from bindings.assets.kind import AssetsKind

KIND = AssetsKind()

__all__ = ["KIND"]
