"""Models by name: `create_model("resnet50", num_classes=1000, dtype="bfloat16")`."""

from imgcls.models.create import create_model
from imgcls.models.registry import list_models, model_entry, register_model, register_pattern

__all__ = ["create_model", "list_models", "model_entry", "register_model", "register_pattern"]
