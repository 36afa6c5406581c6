"""Check a dataset before training: `python -m imgcls.audit --data=folder:/my/images`.

Looks for shortcuts (brightness, borders, file size and other simple properties that predict the
label), duplicates (especially across splits), wrong labels, missing classes, and dark, blurry or
unreadable images. Writes audit.html and audit.json. The exit code is 0 without findings, 1 with
findings, and 2 for a mistake in the command.
"""

import argparse
import json
import pathlib

from imgcls.audit import page
from imgcls.audit.as_json import to_json
from imgcls.audit.checks import Audit, run_checks
from imgcls.audit.reading import Decoding
from imgcls.core import cli, errors, log
from imgcls.core.errors import ConfigError
from imgcls.core.storage import replace_text
from imgcls.data.decode.gray import MAX_BITS, MIN_BITS
from imgcls.data.sources.open import open_dataset
from imgcls.data.sources.source import Dataset, Source


def main(argv: list[str] | None = None) -> int:
    """Runs the checks and writes the results; returns the exit code."""
    args = _parser().parse_args(argv)
    if args.max_images is not None and args.max_images < 1:
        raise ConfigError(f"--max_images={args.max_images}: must be 1 or more")
    out = pathlib.Path(args.out).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"--out={args.out}: can't be written: {errors.one_line(e)}") from e
    if args.bits is not None and not MIN_BITS <= args.bits <= MAX_BITS:
        raise ConfigError(f"--bits={args.bits}: must be {MIN_BITS} to {MAX_BITS}")
    if args.channels < 1:
        raise ConfigError(f"--channels={args.channels}: must be 1 or more")
    data = _open(args)
    audit = run_checks(
        args.data,
        _open_splits(data, args),
        checkpoint=args.checkpoint,
        max_images=args.max_images,
        seed=args.seed,
        problems=data.problems,
        decoding=Decoding(args.bits, args.channels),
    )
    replace_text(out / "audit.json", json.dumps(to_json(audit), indent=1))
    replace_text(out / "audit.html", page.write(audit))
    _print_findings(audit)
    log.result(f"page: {out / 'audit.html'}")
    return int(any(f.level == "finding" for f in audit.findings))


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
    add("--separator", default="|", help="same as config.data.separator")
    return parser


def _open(args: argparse.Namespace) -> Dataset:
    """Opens the dataset; the audit itself reports invalid entries."""
    return open_dataset(
        args.data,
        data_dir=args.data_dir,
        seed=args.split_seed,
        on_error="skip",
        multi_label=None if args.multi_label is None else args.multi_label == "True",
        separator=args.separator,
        question=args.question,
        label_columns=tuple(args.label_columns.split(",")) if args.label_columns else (),
    )


def _open_splits(data: Dataset, args: argparse.Namespace) -> dict[str, Source]:
    names = args.splits.split(",") if args.splits else data.splits
    sources = {name: data.open(name) for name in names}
    sources = {name: source for name, source in sources.items() if len(source)}
    if not sources:
        raise ConfigError(f"--data={args.data}: there are no labeled images")
    return sources


def _print_findings(audit: Audit) -> None:
    for finding in audit.findings:
        # File and class names are untrusted and could contain terminal escape sequences.
        text = "".join(c if c.isprintable() else "?" for c in finding.text)
        log.result(f"{finding.level}: {finding.check}: {text}")
    count = sum(f.level == "finding" for f in audit.findings)
    log.result(f"{len(audit.images):,} images, {count} {'finding' if count == 1 else 'findings'}")


if __name__ == "__main__":
    cli.run(main)
