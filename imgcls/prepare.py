"""Prepare a TFDS dataset in the random-access format that training reads.

    python -m imgcls.prepare --name=imagenet2012 --manual_dir=/downloads --data_dir=/data/tfds

runs the dataset's own TFDS builder with `file_format='array_record'`. A copy
that another project prepared as tfrecord can be converted instead:

    python -m imgcls.prepare --convert=/data/tfds/imagenet2012/5.1.0 --to=/data/array_record

This is the only command that needs TensorFlow: `pip install -r requirements-prepare.txt`.
"""

import json
import pathlib
import shutil

from imgcls.core import cli, errors, log
from imgcls.core.errors import ConfigError

NEEDS = "preparing a dataset needs TensorFlow: run `pip install -r requirements-prepare.txt`"


def build(name: str, data_dir: str | None, manual_dir: str | None) -> pathlib.Path:
    """Runs the TFDS builder `name` (`'imagenet2012'`, `'cifar10:3.0.2'`); returns its directory.

    Args:
      name: TFDS name with an optional config and version.
      data_dir: where prepared datasets are stored (`None`: `~/tensorflow_datasets`).
      manual_dir: directory of the files that TFDS may not download itself.

    Raises:
      ConfigError: the builder is unknown, or files are missing in `manual_dir`.
    """
    tfds = _import_tfds()
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except (AssertionError, ValueError) as e:  # An unknown name is a ValueError.
        raise ConfigError(f"--name={name}: TFDS has no such dataset ({errors.one_line(e)})") from e
    download = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=download)
    except (AssertionError, OSError) as e:
        raise ConfigError(f"--name={name}: TFDS could not prepare it: {errors.one_line(e)}") from e
    return pathlib.Path(builder.data_dir)


def convert(version_dir: str, to: str) -> pathlib.Path:
    """Rewrites a prepared TFDS copy as ArrayRecord under `to/name/.../version`.

    Args:
      version_dir: directory of a prepared copy, with its `dataset_info.json`.
      to: new data directory, for `--config.data.dir`.

    Raises:
      ConfigError: `version_dir` is not a prepared dataset, or it is already in `to`.
    """
    tfds = _import_tfds()
    from tensorflow_datasets.core import file_adapters

    source = pathlib.Path(version_dir)
    if not (source / "dataset_info.json").exists():
        raise ConfigError(
            f"--convert={version_dir}: not a prepared TFDS dataset; give the directory that holds "
            "dataset_info.json, such as .../imagenet2012/5.1.0"
        )
    info = tfds.builder_from_directory(source).info
    if info.file_format is None:
        raise ConfigError(
            f"--convert={version_dir}: dataset_info.json has no fileFormat; use --name to build it"
        )
    if info.file_format is file_adapters.FileFormat.ARRAY_RECORD:
        raise ConfigError(f"--convert={version_dir}: is array_record already; use it as it is")
    target = pathlib.Path(to) / info.full_name
    if target.exists():
        raise ConfigError(f"--to={to}: {target} exists already; remove it or choose another --to")
    reader = file_adapters.ADAPTER_FOR_FORMAT[info.file_format]
    writer = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat.ARRAY_RECORD]
    # Written next to the target and renamed at the end, so that an incomplete copy is never read.
    partial = target.with_name(f"incomplete.{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns(f"*.{reader.FILE_SUFFIX}-*"))
    for split in info.splits.values():
        for path in map(pathlib.Path, split.filepaths):
            records = reader.make_tf_data(str(path)).as_numpy_iterator()
            name = path.name.replace(f".{reader.FILE_SUFFIX}-", f".{writer.FILE_SUFFIX}-")
            examples = ((key, bytes(record)) for key, record in enumerate(records))
            writer.write_examples(str(partial / name), examples)
    dataset_info = json.loads((partial / "dataset_info.json").read_text())
    dataset_info["fileFormat"] = writer.FILE_SUFFIX
    (partial / "dataset_info.json").write_text(json.dumps(dataset_info, indent=2))
    partial.rename(target)
    return target


def _import_tfds():
    try:
        import tensorflow  # noqa: F401  (the builders need it, but report that less clearly)
        import tensorflow_datasets as tfds
    except ImportError as e:
        raise ConfigError(NEEDS) from e
    return tfds


def main(argv: list[str] | None = None) -> int:
    """Builds or converts a dataset, and prints the flags to train on it."""
    parser = cli.create_parser("prepare", __doc__)
    parser.add_argument("--name", help="TFDS name, for example imagenet2012 or cifar10:3.0.2")
    parser.add_argument("--data_dir", help="where prepared datasets are stored")
    parser.add_argument("--manual_dir", help="where files downloaded by hand are stored")
    parser.add_argument("--convert", metavar="DIR", help="a prepared copy in another format")
    parser.add_argument("--to", metavar="DIR", help="with --convert: the new data directory")
    args = parser.parse_args(argv)
    if args.convert:
        if not args.to:
            parser.error("--convert needs --to=DIR")
        done = convert(args.convert, args.to)
    elif args.name:
        done = build(args.name, args.data_dir, args.manual_dir)
    else:
        parser.error("give --name=NAME to build a dataset, or --convert=DIR --to=DIR")
    name = (args.name or done.parts[-2]).split(":")[0]
    root = args.to or args.data_dir
    log.result(f"prepared {done}")
    where = f" --config.data.dir={root}" if root else ""
    log.result(f"read it with --config.data.source=tfds:{name}{where}")
    return 0


if __name__ == "__main__":
    cli.run(main)
