"""What an evaluator is, and the registry of evaluators."""

from imgcls.core.registry import Registry, Signature

EVALUATORS: Registry[type] = Registry(
    "evaluator", "imgcls.evaluate.evaluators", describe=lambda part: Signature(part, 4)
)
register_evaluator = EVALUATORS.register
