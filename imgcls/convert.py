"""Convert a dataset to ArrayRecord: a few large files with random access.

    python -m imgcls.convert --from=manifest:/my/labels.csv --to=/data/mine
    python -m imgcls.main --config=configs/own.py:data=records:/data/mine --workdir=/runs/mine

All splits are converted. Encoded images and videos are copied byte for byte; of files of volumes
only voxels and spacing are kept, because their headers may name patients. Names, groups and
metadata of the examples are kept. The format is described in `imgcls/data/sources/records.py`.
"""

import io
import json
import os
import pathlib
import shutil

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from imgcls.core import cli, errors, log
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.decode.volume import encode_volume, is_volume
from imgcls.data.listing import describe_extensions
from imgcls.data.sources.open import open_dataset
from imgcls.data.sources.records import MANIFEST, VERSION
from imgcls.data.sources.source import Source
from imgcls.data.table.classes import save_classes
from imgcls.data.table.problems import UNREADABLE

# Examples per shard, unless the number of shards is set.
SHARD = 10_000


def convert(spec: str, to: str, shards: int | None = None, **options) -> dict:
    """Writes every split of a source as ArrayRecord; returns the manifest.

    Args:
      spec: source, as in `config.data.source`.
      to: directory that does not exist yet or is empty; it is created when all is written.
      shards: number of files per split; by default one per 10,000 examples.
      options: options of `imgcls.data.sources.open.open_dataset`.

    Raises:
      ConfigError: an error of `open_dataset`, or `to` is not empty.
      DataError: an image can't be read, with `on_error='fail'`.
    """
    target = pathlib.Path(to).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--to={to}: exists and is not empty; choose a new directory")
    data = open_dataset(spec, **options)
    # Written next to the target and renamed at the end, so that an incomplete copy is never read.
    partial = target.with_name(f"incomplete.{target.name}.{os.getpid()}")
    try:
        partial.mkdir(parents=True)
    except OSError as e:
        raise ConfigError(f"--to={to}: can't be written: {errors.one_line(e)}") from e
    try:
        splits, unreadable = {}, []
        for split in data.splits:
            source = data.open(split)
            skip = unreadable if options.get("on_error") == "skip" else None
            splits[split] = _write_split(
                source, split, partial, shards, skip, options.get("videos", False)
            )
        problems = data.problems
        for line in unreadable:
            problems.add(UNREADABLE, line)
        manifest = {
            "version": VERSION,
            "source": spec,
            "class_names": source.class_names,
            "multi_label": source.multi_label,
            "splits": splits,
            "metadata": {
                "options": options,
                "left_out": problems.lines(),
                "passed_over": problems.passed_over,
                "other_files": problems.other_files,
            },
        }
        save_classes(source.class_names, str(partial / "classes.txt"))
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return manifest


def _write_split(
    source: Source,
    split: str,
    folder: pathlib.Path,
    shards: int | None,
    skipped: list | None,
    videos: bool,
) -> dict:
    """Writes the shards and the table of a split; adds unreadable images to `skipped`, if set."""
    count = min(shards or -(-len(source) // SHARD), len(source))
    names = [f"{split}-{k:05d}-of-{count:05d}.array_record" for k in range(count)]
    examples = 0
    with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as table:
        progress = log.progress(len(source), "img", description=split)
        for k, name in enumerate(names):
            writer = ArrayRecordWriter(str(folder / name), "group_size:1")
            for index in range(k * len(source) // count, (k + 1) * len(source) // count):
                progress.update()
                try:
                    example = source[index]
                except DataError as e:
                    if skipped is None:
                        raise
                    skipped.append(errors.one_line(e))
                    continue
                image = example["image"]
                writer.write(image if videos else _encode(image, source.name(index)))
                table.write(json.dumps(_describe(source, index, example)) + "\n")
                examples += 1
            writer.close()
        progress.close()
    return {"examples": examples, "shards": names}


def _describe(source: Source, index: int, example: dict) -> dict:
    """The entry of an example in the table of a split."""
    label = example["label"]
    numbers = np.flatnonzero(label) if source.multi_label else [label]
    row = {"name": source.name(index), "labels": [source.class_names[n] for n in numbers]}
    if source.group(index) is not None:
        row["group"] = source.group(index)
    if source.metadata(index):
        row["metadata"] = source.metadata(index)
    if "start" in example:
        row["segment"] = [example["start"], example["end"]]
    return row


def _encode(image: bytes | np.ndarray, name: str) -> bytes:
    """Encodes uint8 `[H, W, C]` as PNG, `[D, H, W, C]` as `.npy`, and files of volumes as `.npz`.

    The bytes of other files are returned unchanged.
    """
    if isinstance(image, bytes):
        return encode_volume(image, name) if is_volume(image, name) else image
    file = io.BytesIO()
    if image.ndim == 4:
        np.save(file, image, allow_pickle=False)
        return file.getvalue()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG")
    return file.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Flags -> source -> shards."""
    parser = cli.create_parser("convert", __doc__)
    add = parser.add_argument
    add("--from", required=True, dest="source", metavar="SOURCE", help="as config.data.source")
    add("--to", required=True, metavar="DIR", help="a new directory")
    add("--data_dir", metavar="DIR", help="as config.data.dir")
    add("--on_error", choices=("fail", "skip"), default="fail", help="as config.data.on_error")
    add("--multi_label", choices=("True", "False"), help="as config.data.multi_label")
    add("--separator", default="|", help="as config.data.separator")
    add("--label_columns", metavar="NAMES", help="as config.data.label_columns: cat,dog")
    add("--videos", action="store_true", help="convert videos: their files and folders of frames")
    add("--question", metavar="NAME", help="as config.data.question")
    add("--split_seed", type=int, default=0, metavar="N", help="as config.data.split_seed")
    add(
        "--shards",
        type=int,
        metavar="N",
        help="files per split; by default one per 10,000 examples",
    )
    args = parser.parse_args(argv)
    if args.shards is not None and args.shards < 1:
        raise ConfigError(f"--shards={args.shards}: must be 1 or more")
    manifest = convert(
        args.source,
        args.to,
        args.shards,
        data_dir=args.data_dir,
        seed=args.split_seed,
        on_error=args.on_error,
        multi_label=args.multi_label and args.multi_label == "True",
        separator=args.separator,
        question=args.question,
        videos=args.videos,
        label_columns=tuple(args.label_columns.split(",")) if args.label_columns else (),
    )
    for split, about in manifest["splits"].items():
        log.result(f"{split}: {about['examples']:,} examples in {len(about['shards'])} shards")
    for line in manifest["metadata"]["left_out"]:
        log.result(f"left out: {line}")
    for kind, count in manifest["metadata"]["passed_over"].items():
        log.result(f"passed over: {count:,} x {kind}, which says no class")
    if others := manifest["metadata"]["other_files"]:
        log.result(f"passed over: {describe_extensions(others)}")
    log.result(f"read it with --config.data.source=records:{args.to}")
    return 0


if __name__ == "__main__":
    cli.run(main)
