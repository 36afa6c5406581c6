"""What a model must know of its data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """What a model must know of its data.

    Attributes:
      class_names: of the K classes, in the order of the labels.
      multi_label: labels are multi-hot `[K]`.
      image_shape: of an example, `[H, W, C]`.
      num_examples: of the training split.
      class_counts: examples of each class in the training split, `[K]`; () where nothing needs
        them, since counting reads every label.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    image_shape: tuple[int, ...]
    num_examples: int = 0
    class_counts: tuple[int, ...] = ()
