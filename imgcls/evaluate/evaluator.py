"""What an evaluator is, and the registry of evaluators."""

from imgcls.core.registry import Registry

EVALUATORS: Registry[type] = Registry(
    "evaluator", "imgcls.evaluate.evaluators", describe=lambda part: (part, 4)
)
register_evaluator = EVALUATORS.register
