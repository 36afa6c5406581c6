"""Export a trained model for other programs: `python -m imgcls.export --checkpoint=W --to=DIR ...`.

- `--format=safetensors`: `model.safetensors` with timm's parameter names, for
  `timm.create_model("local-dir:DIR", pretrained=True)`; families that are not in timm use the
  names of torchvision or pretrained-models.pytorch. The model takes normalized images.
- `--format=stablehlo`: `model.stablehlo`, for `jax.export.deserialize`, on CPU, CUDA and TPU.
- `--format=onnx`: `model.onnx`, which computes in float32; needs requirements-onnx.txt.

StableHLO and ONNX models take uint8 images `[b, H, W, C]` for any b, normalize them, and return
float32 logits `[b, K]`; the command reads the file back and compares its logits with the model's.
`config.json` next to the file contains the class names and the preprocessing. Averaged (EMA)
parameters are exported if the checkpoint has any.
"""

import importlib.util
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core import cli, errors, log
from imgcls.core.errors import ConfigError, UserError
from imgcls.export.logits import LogitsFunction, image_shape, make_logits
from imgcls.export.onnx import run_onnx, to_onnx
from imgcls.export.safetensors import to_safetensors
from imgcls.export.stablehlo import run_stablehlo, to_stablehlo
from imgcls.runs.load import find_checkpoint
from imgcls.runs.trained import (
    Trained,
    check_classifies,
    load_trained,
)

FORMATS = ("safetensors", "stablehlo", "onnx")
# Batch sizes that are compared.
BATCHES = (1, 5)
# Bytes of the parameters: StableHLO's container and protobuf both hold less than 2^31 bytes.
LARGEST = 2**31 - 2**24
OUTPUTS = {
    "softmax": "logits [b, K]; softmax gives the probabilities of the classes",
    "sigmoid": "logits [b, K]; sigmoid gives the probability of each class independently",
    "multi_label": "logits [b, K]; sigmoid gives the probability of each class independently",
    "binary": "a logit [b, 1]; sigmoid gives the probability of the second class",
}


def compare(
    file: str,
    exported: LogitsFunction,
    original: LogitsFunction,
    shape: tuple[int, ...],
    tolerance: float,
    dtype: str = "uint8",
) -> None:
    """Compares an exported model with the original on random images; prints the difference.

    Args:
      file: path of the export, for the message.
      exported, original: functions that return logits `[b, K]` of images `[b, *shape]`.
      shape: shape of an example, such as (H, W, C).
      tolerance: largest difference allowed, relative to the largest logit.
      dtype: dtype of the images.

    Raises:
      UserError: the difference is larger.
    """
    rng = np.random.default_rng(0)
    differences, largest = [], 0.0
    for batch in BATCHES:
        images = rng.integers(0, 256, (batch, *shape), np.uint8).astype(dtype)
        expected = np.asarray(jax.jit(original)(jnp.asarray(images)))
        differences.append(np.abs(np.asarray(exported(jnp.asarray(images))) - expected).max())
        largest = max(largest, np.abs(expected).max())
    difference = float(np.max(differences))
    text = f"logits of up to {largest:.3g} differ from the model's by {difference:.1e} at most"
    if not difference <= tolerance * largest:
        raise UserError(f"{file}: {text}: not the same model; do not use it")
    log.result(f"{file}: batches of {BATCHES[0]} and {BATCHES[1]}: {text}")


def main(argv: list[str] | None = None) -> int:
    """Exports a model as set by the flags, and compares the export with it."""
    parser = cli.create_parser("export", __doc__)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help=cli.CHECKPOINT_HELP)
    parser.add_argument("--to", required=True, metavar="DIR", help="created if missing")
    parser.add_argument("--format", required=True, choices=FORMATS)
    args = parser.parse_args(argv)
    export(args.checkpoint, args.to, args.format)
    return 0


def export(
    checkpoint: str | os.PathLike, to: str | os.PathLike, format: str = "safetensors"
) -> pathlib.Path:
    """Exports a trained model, as `python -m imgcls.export` does, and compares the logits.

    Args:
      checkpoint: a workdir, or the directory of a checkpoint, see `imgcls.load`.
      to: directory of the files, created if missing.
      format: 'safetensors', 'stablehlo' or 'onnx'.

    Returns:
      The file of the model; `config.json` beside it has its classes and preprocessing.

    Raises:
      ConfigError: there is no checkpoint, it has no classes, a package is missing, or `to` holds
        files that are not from an export.
      UserError: the exported model's logits differ.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"format={format!r}: unknown{errors.did_you_mean(format, FORMATS)}; "
            f"valid: {', '.join(FORMATS)}"
        )
    _check_installed(format)
    where = os.fspath(checkpoint)
    trained = load_trained(find_checkpoint(where))
    _check_trained(trained, where, format)
    file = pathlib.Path(to).expanduser() / f"model.{format}"
    _check_overwrite(file, format)

    shape, extra, onnx = image_shape(trained), {}, format == "onnx"
    # onnxruntime has no bfloat16 convolutions on the CPU.
    original = make_logits(trained, "float32" if onnx else None)
    if format == "safetensors":
        data, extra = to_safetensors(trained, shape)
    else:
        data = (to_onnx if onnx else to_stablehlo)(original, shape, trained.info.image_dtype)
    description = json.dumps(_describe(trained, shape, format) | extra, indent=2) + "\n"
    _write({file: data, file.with_name("config.json"): description.encode()})
    log.result(f"{file}: {len(data):,} bytes")
    if format != "safetensors":
        exact = onnx or (jax.default_backend() == "cpu" and trained.config.model.dtype == "float32")
        exported = (run_onnx if onnx else run_stablehlo)(file.read_bytes())
        with jax.default_matmul_precision("highest" if onnx else "default"):
            tolerance = 1e-4 if exact else 2e-2
            compare(str(file), exported, original, shape, tolerance, trained.info.image_dtype)
    return file


def _describe(trained: Trained, shape: tuple[int, ...], file_format: str) -> dict[str, Any]:
    """Contents of `config.json` that all formats share."""
    data = trained.config.data
    norms = {"mean": list(data.mean), "std": list(data.std)}
    inside = file_format != "safetensors"
    layout = ["b", *shape] if inside else ["b", shape[-1], *shape[:-1]]
    return {
        "exported_by": "imgcls",
        "format": file_format,
        "model": trained.config.model.name,
        "class_names": list(trained.info.class_names),
        "input": {"dtype": trained.info.image_dtype if inside else "float32", "shape": layout},
        "preprocessing": {"transform": data.eval_transform, "channels": data.channels, **norms},
        "normalised": "inside the model" if inside else "before the model",
        "output": OUTPUTS[trained.objective.task],
    }


def _check_installed(file_format: str) -> None:
    """Raises a ConfigError if a package that the format needs is missing."""
    file = "requirements-onnx.txt" if file_format == "onnx" else "requirements.txt"
    needed = {"stablehlo": ("flatbuffers",), "onnx": ("jax2onnx", "onnxruntime")}
    for package in needed.get(file_format, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"--format={file_format} needs {package}: run `pip install -r {file}`"
            )


def _check_trained(trained: Trained, checkpoint: str, file_format: str) -> None:
    """Raises a ConfigError if the model has no classes or is too large for the format."""
    check_classifies(trained, checkpoint)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((trained.params, trained.model_state)))
    if file_format != "safetensors" and size > LARGEST:
        raise ConfigError(
            f"--format={file_format} can hold at most 2 GB, and the parameters have "
            f"{size / 1e9:.1f} GB: use --format=safetensors"
        )


def _check_overwrite(file: pathlib.Path, file_format: str) -> None:
    """Raises a ConfigError if files exist that are not from an export in the same format."""
    config = file.with_name("config.json")
    try:
        existing = json.loads(config.read_text())
        own = existing["exported_by"] == "imgcls" and existing["format"] == file_format
    except (OSError, ValueError, LookupError, TypeError):
        own = False
    for path in (file, config):
        if path.exists() and not own:
            raise ConfigError(
                f"--to={file.parent}: its {path.name} is not from an export as {file_format}: "
                "write another folder"
            )


def _write(files: dict[pathlib.Path, bytes]) -> None:
    for path, data in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as e:
            raise ConfigError(f"--to={path.parent}: can't be written: {errors.one_line(e)}") from e


if __name__ == "__main__":
    cli.run(main)
