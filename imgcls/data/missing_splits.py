"""Replaces the splits that a config names and its dataset lacks.

A validation split is cut from the training split, stratified and without dividing groups; a test
split is replaced by the validation split. This happens before training, in the config itself, which
is saved with the run: evaluation, reports and a continued run use the same examples.
"""

from ml_collections import ConfigDict

from imgcls.core import log
from imgcls.core.config import check_choice
from imgcls.core.errors import ConfigError
from imgcls.data.create import open_data
from imgcls.data.sources.source import Dataset
from imgcls.data.sources.splits import parse_split
from imgcls.data.table.table import split_of

# Training splits of fewer examples give a larger share to validation.
_SMALL = 100


def replace_missing_splits(config: ConfigDict) -> None:
    """Changes `data.train_split` and `evaluators` in place, if `data.missing_splits` is 'replace'.

    Evaluators of a missing test split are removed if another one evaluates the validation split.

    Raises:
      ConfigError: the training split is too small to cut a validation split from it.
    """
    check_choice("data.missing_splits", config.data.missing_splits, ("fail", "replace"))
    if config.data.missing_splits == "fail":
        return
    data = open_data(config)
    missing = [split for split in ("val", "test") if not holds_examples(data, split)]
    if "val" in missing and _evaluators_of(config, "val"):
        _cut_validation(config, data)
    tests = _evaluators_of(config, "test")
    if "test" in missing and tests:
        others = [s.get("split") for name, s in config.evaluators.items() if name not in tests]
        for name in tests:
            if others:
                del config.evaluators[name]
            else:
                config.evaluators[name].split = "val"
        reported = others[0] if others else "val"
        log.info(f"{config.data.source} has no test split: {reported} is reported")
        if not others:
            replace_missing_splits(config)


def holds_examples(data: Dataset, split: str) -> bool:
    """Whether a dataset has a split, and that split or slice has examples."""
    name = parse_split(split)[0]
    known = name in data.splits or split_of(name) in map(split_of, data.splits)
    return known and len(data.open(split)) > 0


def _evaluators_of(config: ConfigDict, split: str) -> list[str]:
    return [name for name, section in config.evaluators.items() if _names(section, split)]


def _names(section, split: str) -> bool:
    return isinstance(section, ConfigDict) and section.get("split") == split


def _cut_validation(config: ConfigDict, data: Dataset) -> None:
    train = config.data.train_split
    if train != "train" or not holds_examples(data, train):
        return
    count = len(data.open(train))
    bound = "80%" if count < _SMALL else "90%"
    kept, cut = f"train[:{bound}]", f"train[{bound}:]"
    if not (len(data.open(kept)) and len(data.open(cut))):
        raise ConfigError(
            f"config.data.source={config.data.source}: has no split 'val', and can't cut one from "
            f"the {count} training examples; add images, or groups if they are all in one"
        )
    log.info(f"{config.data.source} has no val split: {cut} is held out, {kept} is trained on")
    config.data.train_split = kept
    for name in _evaluators_of(config, "val"):
        config.evaluators[name].split = cut
