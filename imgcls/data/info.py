"""What a model needs to know about its data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What a model needs to know about its data.

    Attributes:
      class_names: names of the K classes, in the order of the labels.
      multi_label: whether labels are multi-hot `[K]`.
      image_shape: shape of an example, `[H, W, C]`, or `[D, H, W, C]` of a volume.
      num_examples: number of examples in the training split.
      class_counts: number of examples of each class in the training split, `[K]`; () if they are
        not needed, since counting reads every label.
      image_dtype: dtype of an example: uint8, or float16 or float32 of volumes.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    image_shape: tuple[int, ...]
    num_examples: int = 0
    class_counts: tuple[int, ...] = ()
    image_dtype: str = "uint8"
