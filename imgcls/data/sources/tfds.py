"""TFDS datasets by random access, without TensorFlow."""

import functools
import os

import numpy as np

from imgcls.core.errors import ConfigError, one_line
from imgcls.data.decode.frame_files import pack_frames
from imgcls.data.sources.plain import PlainSource
from imgcls.data.sources.source import Dataset, SourceOptions, register_source
from imgcls.data.sources.splits import parse_split


@register_source("tfds", "NAME[:VERSION]")
def open_tfds(path: str, options: SourceOptions) -> Dataset:
    """Opens a TFDS dataset that was prepared as ArrayRecord.

    Args:
      path: `'imagenet2012'`, `'imagenet2012:5.1.0'` or `'name/config:version'`.
      options: `data_dir` is the directory of prepared datasets (None: `TFDS_DATA_DIR` or
        `~/tensorflow_datasets`).

    Raises:
      ConfigError: the dataset is not prepared, or has no random access; the message is the command
        to run.
    """
    import tensorflow_datasets as tfds

    root = options.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    builder = _find_builder(tfds, path, os.path.expanduser(root))
    return Dataset(tuple(builder.info.splits), functools.partial(TfdsSource, builder))


class TfdsSource(PlainSource):
    """One split of a TFDS dataset that was prepared as ArrayRecord.

    Images are the stored encoded bytes (`SkipDecoding`). A video is stored as encoded frames, which
    are packed.

    Args:
      builder: TFDS builder of the prepared dataset.
      split: TFDS split such as `train[:99%]`.
    """

    def __init__(self, builder, split: str):
        import tensorflow_datasets as tfds

        parse_split(split)
        info = builder.info
        name = split.split("[")[0].strip()
        if name not in info.splits:
            available = ", ".join(info.splits)
            raise ConfigError(f"tfds:{info.full_name}: has no split {name!r}; it has {available}")
        image_key, label_key = info.supervised_keys or ("image", "label")
        label = info.features[label_key]
        # A sequence of labels also has the attributes of its inner feature: check the type.
        self.multi_label = not isinstance(label, tfds.features.ClassLabel)
        self.class_names = tuple((label.feature if self.multi_label else label).names)
        self.splits = tuple(info.splits)
        self._keys = image_key, label_key
        self._split = split
        skip = tfds.decode.SkipDecoding()
        # The frames of a video stay encoded as well.
        skip.decode_batch_example_np = skip.decode_example  # pyright: ignore[reportAttributeAccessIssue]
        decoders = {image_key: skip}
        self._records = builder.as_data_source(split=split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        record = self._records[index]
        image = record[self._keys[0]]
        if not isinstance(image, bytes):  # The encoded frames of a video.
            image = pack_frames((str(number), frame) for number, frame in enumerate(image))
        return {"image": image, "label": self._label(record)}

    def labels(self) -> np.ndarray:
        # Images stay encoded: about 10,000 records per second.
        return np.array([self._label(self._records[index]) for index in range(len(self))])

    def _label(self, record: dict) -> int | np.ndarray:
        label = record[self._keys[1]]
        if not self.multi_label:
            return int(label)
        hot = np.zeros(len(self.class_names), np.uint8)
        hot[np.asarray(label, int)] = 1
        return hot

    def name(self, index: int) -> str:
        file = self._records[index].get("file_name")
        return f"{self._split}[{index}]" + (f" ({file.decode()})" if file else "")


def _find_builder(tfds, spec: str, root: str):
    name, _, version = spec.partition(":")
    read = tfds.core.read_only_builder
    config = dict(zip(("name", "config"), name.split("/"), strict=False))
    try:
        builder = read.builder_from_files(data_dir=root, version=version or None, **config)
    except ModuleNotFoundError as e:
        raise ConfigError(
            f"tfds:{spec}: its features need {e.name}: run `pip install -r "
            "requirements-prepare.txt`, or convert it where that is installed: `python -m "
            f"imgcls.convert --videos --from=tfds:{spec} --to=DIR`"
        ) from e
    except (tfds.core.registered.DatasetNotFoundError, FileNotFoundError, ValueError) as e:
        raise ConfigError(
            f"tfds:{spec}: not prepared in {root}; run `python -m imgcls.prepare --name={spec} "
            f"--data_dir={root}`{_manual_dir_hint(name)} ({one_line(e)[:80]})"
        ) from None
    if builder.info.file_format.value != "array_record":
        raise ConfigError(
            f"tfds:{spec}: {builder.data_dir} is {builder.info.file_format.value}, which has no "
            f"random access; run `python -m imgcls.prepare --convert={builder.data_dir} "
            f"--to={root.rstrip('/')}_array_record` and set config.data.dir to that"
        )
    return builder


def _manual_dir_hint(name: str) -> str:
    """Hint for the datasets whose archives must be downloaded by hand."""
    manual = ("imagenet2012", "imagenet_resized", "resisc45", "dtd_manual", "celeb_a_hq")
    return " with --manual_dir=DIR for the archives you downloaded" if name in manual else ""
