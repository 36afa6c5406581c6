"""What an objective is, and the registry of objectives."""

from imgcls.core.registry import Registry, Signature

OBJECTIVES: Registry[type] = Registry(
    "objective", "imgcls.objectives", describe=lambda part: Signature(part, 2)
)
register_objective = OBJECTIVES.register


def list_objectives() -> list[str]:
    """Registered names, sorted."""
    return list(OBJECTIVES)
