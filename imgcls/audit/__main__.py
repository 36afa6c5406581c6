"""Check a dataset before training: `python -m imgcls.audit --data=folder:/my/images`.

Looks for shortcuts (brightness, borders, file size and other simple properties that predict the
label), duplicates (especially across splits), wrong labels, missing classes, and dark, blurry or
unreadable images. Writes audit.html and audit.json. The exit code is 0 without findings, 1 with
findings, and 2 for a mistake in the command.
"""

import argparse
import json
import os
import pathlib
from collections.abc import Sequence

from imgcls.audit import page
from imgcls.audit.as_json import to_json
from imgcls.audit.checks import Audit, run_checks
from imgcls.audit.reading import Decoding
from imgcls.audit.videos import is_video
from imgcls.core import cli, errors, log
from imgcls.core.errors import ConfigError, DataError
from imgcls.core.storage import replace_text
from imgcls.data.decode.gray import MAX_BITS, MIN_BITS
from imgcls.data.sources.open import open_dataset
from imgcls.data.sources.source import Dataset, Source
from imgcls.data.table.problems import NO_CLASS


def main(argv: list[str] | None = None) -> int:
    """Runs the checks and writes the results; returns the exit code."""
    args = vars(_parser().parse_args(argv))
    args["splits"] = args["splits"].split(",") if args["splits"] else None
    args["label_columns"] = args["label_columns"].split(",") if args["label_columns"] else ()
    if args["multi_label"] is not None:
        args["multi_label"] = args["multi_label"] == "True"
    found = audit(**args)
    return int(any(f.level == "finding" for f in found.findings))


def audit(
    data: str,
    out: str | os.PathLike = "audit",
    *,
    data_dir: str | None = None,
    checkpoint: str | None = None,
    splits: Sequence[str] | None = None,
    max_images: int | None = None,
    seed: int = 0,
    split_seed: int = 0,
    multi_label: bool | None = None,
    label_columns: Sequence[str] = (),
    question: str | None = None,
    channels: int = 3,
    bits: int | None = None,
    separator: str = "|",
    videos: bool = False,
    group_pattern: str | None = None,
) -> Audit:
    """Checks a dataset before training, as `python -m imgcls.audit` does.

    >>> imgcls.audit("folder:/my/pictures", max_images=10_000).findings

    Args:
      data: the dataset, as in `config.data.source`.
      out: directory of audit.html and audit.json, created if missing.
      data_dir, split_seed, multi_label, label_columns, question, channels, bits, separator: keys of
        `config.data`.
      checkpoint: trained model whose features are used to check the labels.
      splits: splits to check; None is all.
      max_images: size of a random sample to check; None is all images.
      seed: seed of sample, folds and permutations.
      videos: whether the examples are videos; recognized if the first one is the file of a video.
      group_pattern: regular expression whose first group in a path is the scene or subject.

    Returns:
      The results; a notebook shows the findings.

    Raises:
      ConfigError: an invalid argument, or there are no labeled images.
    """
    if max_images is not None and max_images < 1:
        raise ConfigError(f"--max_images={max_images}: must be 1 or more")
    folder = pathlib.Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"--out={out}: can't be written: {errors.one_line(e)}") from e
    if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"--bits={bits}: must be {MIN_BITS} to {MAX_BITS}")
    if channels < 1:
        raise ConfigError(f"--channels={channels}: must be 1 or more")
    # The audit itself reports invalid entries.
    options = dict(data_dir=data_dir, seed=split_seed, on_error="skip", multi_label=multi_label)
    options |= dict(separator=separator, question=question, label_columns=tuple(label_columns))
    dataset, sources, videos = _open(data, splits, videos, options)
    found = run_checks(
        data,
        sources,
        checkpoint=checkpoint,
        max_images=max_images,
        seed=seed,
        problems=dataset.problems,
        decoding=Decoding(bits, channels, videos),
        pattern=group_pattern,
    )
    replace_text(folder / "audit.json", json.dumps(to_json(found), indent=1))
    replace_text(folder / "audit.html", page.write(found))
    _print_findings(found)
    log.result(f"page: {folder / 'audit.html'}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = cli.create_parser("audit", __doc__)
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="SOURCE",
        help="the dataset, as in config.data.source: folder:PATH, ...",
    )
    add("--data_dir", metavar="DIR", help="same as config.data.dir")
    add("--checkpoint", metavar="DIR", help="check labels with the features of this trained model")
    add("--out", default="audit", metavar="DIR", help="output directory (default: ./audit)")
    add("--splits", metavar="NAMES", help="splits to check, such as train,test (default: all)")
    add("--max_images", type=int, metavar="N", help="check a random sample of N images")
    add("--seed", type=int, default=0, help="seed of sample, folds and permutations (default: 0)")
    add("--split_seed", type=int, default=0, metavar="N", help="same as config.data.split_seed")
    add("--multi_label", choices=("True", "False"), help="same as config.data.multi_label")
    add("--label_columns", metavar="NAMES", help="same as config.data.label_columns: cat,dog")
    add("--question", metavar="NAME", help="same as config.data.question")
    add("--channels", type=int, default=3, metavar="N", help="same as config.data.channels")
    add("--bits", type=int, metavar="N", help="same as config.data.bits")
    add("--videos", action="store_true", help="check videos; set where there are also images")
    add(
        "--group_pattern",
        metavar="REGEX",
        help="names that go together: what the first group in a path is, such as '_(g[0-9]+)_'",
    )
    add("--separator", default="|", help="same as config.data.separator")
    return parser


def _open(
    data: str, splits: Sequence[str] | None, videos: bool, options: dict
) -> tuple[Dataset, dict[str, Source], bool]:
    """Returns the dataset, its splits, and whether the examples are videos.

    Raises:
      ConfigError: there are no examples.
    """

    def open_as(videos: bool) -> tuple[Dataset, dict[str, Source]]:
        dataset = open_dataset(data, videos=videos, **options)
        return dataset, _open_splits(data, dataset, splits)

    try:
        opened = open_as(videos)
        if videos or not _has_videos(opened[1]):
            return *opened, videos
        # Only now are the parts of videos read.
        return *open_as(True), True
    except ConfigError as e:
        # Files of videos are passed over among images.
        try:
            opened = open_as(True)
        except ConfigError as of_videos:
            # There are no images, and the videos lie in no class folders.
            outside = NO_CLASS in str(of_videos) and NO_CLASS not in str(e)
            raise of_videos if outside else e from None
        if not videos and _has_videos(opened[1]):
            return *opened, True
        raise


def _has_videos(sources: dict[str, Source]) -> bool:
    try:
        return is_video(next(iter(sources.values()))[0]["image"], False)
    except DataError:
        return False


def _open_splits(data: str, dataset: Dataset, splits: Sequence[str] | None) -> dict[str, Source]:
    sources = {name: dataset.open(name) for name in splits or dataset.splits}
    sources = {name: source for name, source in sources.items() if len(source)}
    if not sources:
        raise ConfigError(f"--data={data}: there are no labeled images")
    return sources


def _print_findings(audit: Audit) -> None:
    for finding in audit.findings:
        # File and class names are untrusted and could contain terminal escape sequences.
        text = "".join(c if c.isprintable() else "?" for c in finding.text)
        log.result(f"{finding.level}: {finding.check}: {text}")
    count = sum(f.level == "finding" for f in audit.findings)
    examples = f"{len(audit.images):,} {audit.images.noun}s"
    log.result(f"{examples}, {count} {'finding' if count == 1 else 'findings'}")


if __name__ == "__main__":
    cli.run(main)
