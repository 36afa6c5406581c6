"""Settings that are chosen from the data and the speed of the machine: `config.auto`.

With `auto.minutes`, the keys of `CHOSEN` whose value is "auto" are set before training; also the
keys of `OF_MODELS`, if the config lacks them. Images that are large enough start from pretrained
weights, if these can be had. The size and the model come from the sizes of the
images, the width and the length from their number and the time of a training step, the augmentation
from how often an image is seen. The choice is kept in the workdir: a run that is
continued reads it there, and is the same on a faster or slower machine.
"""

import json
import time
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from imgcls.core import config as config_lib
from imgcls.core import log
from imgcls.core.defaults import is_harmless
from imgcls.core.durations import to_steps
from imgcls.core.errors import ConfigError, one_line
from imgcls.core.plugins import load_plugins
from imgcls.core.storage import as_path, replace_text
from imgcls.data.create import open_split
from imgcls.data.missing_splits import replace_missing_splits
from imgcls.data.sources.source import Source
from imgcls.distributed.agreement import from_first
from imgcls.models.weights import files
from imgcls.runs.load import find_newest
from imgcls.train import choices
from imgcls.train.choices import Candidate
from imgcls.train.probe import measure_speed

# Keys that are chosen where their value is "auto".
CHOSEN = (
    "total",
    "init_from",
    "model.name",
    "data.train_transform",
    "data.eval_transform",
    "data.batch_transform",
    "data.sampling",
)
OF_MODELS = ("model.width", "model.stem", "model.widths", "model.head_std", "model.logit_scale")
# File in the workdir.
FILE = "chosen.json"
# Share of the time for evaluation and checkpoints, and seconds for the end of the run.
RESERVE, END = 0.06, 5.0
# Seconds before the first step, if the speed is given.
START = 30.0
# A mirrored image counts as the same if it is recognized nearly as often.
MIRRORED = 0.75


def choose(config: ConfigDict, workdir: str, began: float) -> dict | None:
    """Sets the keys of `config` that are to be chosen, in place; nothing without `auto.minutes`.

    Args:
      config: config of the run.
      workdir: directory of the run; a choice that it has is used again.
      began: start of the process, in seconds of `time.monotonic()`.

    Returns:
      A new choice, for `save_choice` once the run is set up; None if there is none.

    Raises:
      ConfigError: the data is missing, or a setting is invalid.
    """
    if config.auto.minutes is None:
        return None
    for key in ("minutes", "tflops", "size"):
        if config.auto[key] is not None and config.auto[key] <= 0:
            raise ConfigError(f"config.auto.{key}={config.auto[key]}: must be above 0")
    load_plugins(config)
    replace_missing_splits(config)
    values, choice = _read(config, workdir), None
    if values is None:
        asked = _asked(config)
        values, reasons = make_choice(config, began)
        choice = {"values": values, "reasons": reasons, "asked": asked}
        for reason in reasons:
            log.info(f"chosen: {reason}")
    apply_values(config, values)
    return choice


def save_choice(workdir: str, choice: dict) -> None:
    """Keeps a choice in the workdir, on process 0.

    Raises:
      ConfigError: the workdir is not writable.
    """
    if jax.process_index() != 0:
        return
    folder = as_path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / FILE, json.dumps(choice, indent=2) + "\n")
    except OSError as e:
        raise ConfigError(f"{workdir}: can't be written: {one_line(e)}") from e


def make_choice(config: ConfigDict, began: float) -> tuple[dict[str, object], list[str]]:
    """Returns `{key: value}` of the keys to be chosen, and the reasons in a few lines."""
    source = open_split(config, config.data.train_split)
    images, side, batch = len(source), choices.read_side(source), config.batch_size
    sizes = (config.auto.size,) if config.auto.size else choices.choose_sizes(side)
    weights, why_weights = _find_weights(config, sizes)
    candidates = choices.list_candidates(config, source, sizes, weights)
    mirrored, why = True, "mirrored too"
    if _is_open(config, "data.train_transform"):
        mirrored, why = _check_mirrored(source, config.data.split_seed)
    sampling, why_sampling = _choose_sampling(source)

    def values_of(candidate: Candidate, epochs: float) -> dict[str, object]:
        values: dict[str, object] = {f"model.{key}": v for key, v in candidate.model}
        values |= choices.augmentation(candidate.size, side, epochs, mirrored)
        values |= {"data.sampling": sampling, "init_from": candidate.weights}
        if candidate.weights is not None:
            values["optim.multipliers"] = choices.BACKBONE
        if source.multi_label:
            values["data.batch_transform"] = ""
        return {key: value for key, value in values.items() if _is_open(config, key)}

    best, total, pace = _fit(config, candidates, images, values_of, began)
    epochs = to_steps(total, config, images, "total") * batch / images
    strength = "strong" if epochs >= choices.STRONG else "light"
    reasons = [
        f"size {best.size}: the images' shorter sides have a median of {side} pixels",
        *([why_weights] if why_weights else []),
        f"{_describe(best)}{epochs:.3g} epochs of {images:,} images: {pace}",
        f"{strength} augmentation: each image is seen {epochs:.3g} times; {why}",
        f"{sampling} sampling: {why_sampling}",
    ]
    values = values_of(best, epochs)
    return values | ({"total": total} if _is_open(config, "total") else {}), reasons


def apply_values(config: ConfigDict, values: dict[str, object]) -> None:
    """Sets keys such as `model.width`."""
    for key, value in values.items():
        *sections, name = key.split(".")
        section = config
        for part in sections:
            section = section[part]
        section[name] = _as_tuple(value)


def _as_tuple(value: object) -> object:
    """A value as it was before it was written as JSON."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _fit(
    config: ConfigDict,
    candidates: tuple[Candidate, ...],
    images: int,
    values_of: Callable[[Candidate, float], dict[str, object]],
    began: float,
) -> tuple[Candidate, str, str]:
    """The candidate for the time, its `total`, and why.

    The speed is measured with the cheapest candidate and then, as large models use a machine
    better, with the chosen one.
    """
    given, batch = not _is_open(config, "total"), config.batch_size
    if given and len(candidates) == 1:
        return candidates[0], config.total, "as the config says"
    wanted = choices.wanted_epochs(images, candidates[0].weights is not None) * images
    if given:
        wanted = to_steps(config.total, config, images, "total") * batch
    best, seconds, rate = candidates[0], 1, 0.0
    for last in (False, True):
        start, rate = START, (config.auto.tflops or 0) * 1e12
        if not config.auto.tflops:
            trial = config.copy_and_resolve_references()
            apply_values(trial, values_of(best, choices.STRONG))
            speed = measure_speed(trial)
            # Processes must agree; NumPy's int32 holds millions of FLOPs per second.
            rate = 1e6 * from_first(round(best.flops * batch / speed.step / 1e6))
            # The run is set up and compiled again.
            start = time.monotonic() - began + speed.start
        left = (60 * config.auto.minutes - start - END) * (1 - RESERVE)
        seconds = from_first(round(max(left, 1)))
        chosen = choices.select(candidates, seconds * rate, wanted)
        if config.auto.tflops:
            best = chosen
        if last or chosen == best:
            break
        best = chosen
    steps = choices.choose_steps(seconds * rate, best.flops, batch, images)
    pace = (
        f"a step of {batch} takes {1e3 * best.flops * batch / rate:.3g} ms, and of "
        f"{config.auto.minutes:g} minutes {seconds} s are left to train"
    )
    return best, config.total if given else f"{steps} steps", pace


def _describe(candidate: Candidate) -> str:
    """The name, stem and widths of a model that are chosen, with commas."""
    shown = {key: value for key, value in candidate.model if key not in choices.AIRBENCH}
    return "".join(
        f"{value}, " if key == "name" else f"{key} {value}, " for key, value in shown.items()
    )


def _find_weights(config: ConfigDict, sizes: tuple[int, ...]) -> tuple[str | None, str]:
    """The weights to start from, and why; None for those that are trained from scratch.

    Those of ImageNet are downloaded, or found in the local cache, if the images are large enough.
    """
    if not _is_open(config, "init_from"):
        return config.init_from, ""
    if not _is_open(config, "model.name") or config.data.channels != 3:
        return None, ""
    if max(sizes) <= choices.SMALL:
        return None, "from scratch: small images need no pretrained weights"
    try:
        files.download(choices.WEIGHTS.partition(":")[2])
        found, why = True, f"pretrained weights: {choices.WEIGHTS}"
    except ConfigError as e:
        found, why = False, f"from scratch: {e}".replace("init_from: ", "")
    # All processes start from the same.
    if not from_first(int(found)):
        return None, why if not found else "from scratch: process 0 has no pretrained weights"
    return choices.WEIGHTS, why


def _choose_sampling(source: Source) -> tuple[str, str]:
    """The sampling of training examples, and why."""
    if source.multi_label:
        return "uniform", "images have any number of labels"
    counts = np.bincount(source.labels(), minlength=len(source.class_names))
    why = f"the classes have {counts.min():,} to {counts.max():,} images"
    return choices.choose_sampling(counts), why


def _check_mirrored(source: Source, seed: int) -> tuple[bool, str]:
    """Whether to mirror images, and why."""
    from imgcls.evaluate.baseline import recognize_mirrored  # scikit-learn takes a second to import

    found = recognize_mirrored(source, seed)
    if found is None:
        return True, "mirrored too"
    plain, mirrored = found
    same = bool(from_first(int(mirrored >= MIRRORED * plain)))
    shares = (
        f"gradients and colors recognize {mirrored:.0%} of mirrored images, {plain:.0%} of others"
    )
    return same, f"{'mirrored too' if same else 'not mirrored'}, as {shares}"


def _is_open(config: ConfigDict, key: str) -> bool:
    """Whether a key is to be chosen."""
    if key in CHOSEN:
        return config_lib.leaves(config).get(key) == "auto"
    if key == "optim.multipliers":
        return not config.optim.multipliers
    return key.removeprefix("model.") not in config.model


def _read(config: ConfigDict, workdir: str) -> dict[str, object] | None:
    """The values that the run in a workdir has; None for a new run."""
    newest = find_newest(workdir)
    if newest is not None:
        leaves = config_lib.leaves(newest.read_meta()[0])
        keys = (*CHOSEN, *OF_MODELS, "optim.multipliers")
        return {key: leaves[key] for key in keys if key in leaves and _is_open(config, key)}
    try:
        saved = json.loads((as_path(workdir) / FILE).read_text())
        return saved["values"] if saved["asked"] == _asked(config) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None  # There is none, or it is damaged.


def _asked(config: ConfigDict) -> dict[str, object]:
    """The settings on which a choice depends, as read from JSON."""
    leaves = config_lib.leaves(ConfigDict(json.loads(config_lib.to_json(config))))
    return {key: value for key, value in leaves.items() if not is_harmless(key)}
