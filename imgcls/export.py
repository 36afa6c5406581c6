"""Write a trained model for other programs: `python -m imgcls.export --checkpoint=W --to=DIR ...`.

- `--format=safetensors`: `model.safetensors` under timm's names, for
  `timm.create_model("local-dir:DIR", pretrained=True)`; families that timm has not, under
  torchvision's or pretrained-models.pytorch's names. It takes normalised pictures.
- `--format=stablehlo`: `model.stablehlo`, for `jax.export.deserialize`, on CPU, CUDA and TPU.
- `--format=onnx`: `model.onnx`, which computes in float32; needs requirements-onnx.txt.

The last two take uint8 pictures `[b, H, W, C]` for any b, normalise them, and return float32 logits
`[b, K]`; the command reads the file back and compares its logits with the model's. `config.json`
beside the file has the class names and the preprocessing. Averaged (EMA) parameters are written
where the checkpoint has any.
"""

import argparse
import importlib.util
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import export as jax_export

from imgcls import cli, weights
from imgcls.checkpoint import Trained, check_classifies, load_trained, model_variables
from imgcls.data import batch_transforms, create_reader
from imgcls.errors import ConfigError, UserError
from imgcls.models.vit import resample_positions, sincos2d
from imgcls.objectives import create_objective
from imgcls.weights.onnx_model import run_onnx, to_onnx
from imgcls.weights.tables import layouts
from imgcls.weights.timm_config import timm_config, timm_transform

PLATFORMS = ("cpu", "cuda", "tpu")
BATCHES = (1, 5)
# Both StableHLO's container and protobuf count bytes in 31 bits.
LARGEST = 2**31 - 2**24
OUTPUTS = {
    "softmax": "logits [b, K]; softmax gives the probabilities of the classes",
    "sigmoid": "logits [b, K]; sigmoid gives the probability of each class by itself",
    "multi_label": "logits [b, K]; sigmoid gives the probability of each class by itself",
    "binary": "a logit [b, 1]; sigmoid gives the probability of the second class",
}

Logits = Callable[[jax.Array], jax.Array]


def image_shape(trained: Trained) -> tuple[int, int, int]:
    """`(H, W, C)` of the pictures that the evaluation transform makes."""
    record = {"image": np.zeros(trained.info.image_shape, np.uint8), "label": 0}
    return create_reader(trained.config, [record], train=False).spec["image"].shape


def make_logits(trained: Trained, dtype: str | None = None) -> Logits:
    """Pictures uint8 `[b, H, W, C]` -> float32 logits `[b, K]`; the parameters are constants.

    Args:
      trained: the model.
      dtype: of the computation, in place of the model's.
    """
    config = trained.config.copy_and_resolve_references()
    config.model.dtype = dtype or config.model.dtype
    objective = create_objective(config, trained.info)
    variables = jax.tree.map(np.asarray, (trained.params, trained.model_state))

    def logits(images: jax.Array) -> jax.Array:
        x = batch_transforms.normalize(images, config.data.mean, config.data.std)
        return objective.logits(*variables, {"image": x})

    return logits


def to_safetensors(trained: Trained, shape: tuple[int, int, int]) -> tuple[bytes, dict[str, Any]]:
    """The file, and what `config.json` says beside what every format says.

    Raises:
      ConfigError: timm can't express an option of the model.
    """
    from safetensors.numpy import save

    model, config = trained.objective.model, trained.config
    layout = layouts(model)[0]
    variables = model_variables(trained)
    transform = timm_transform(config.data.eval_transform)
    norms = {k: list(config.data[k]) * (shape[-1] // len(config.data[k])) for k in ("mean", "std")}
    if layout.project == "timm":
        paths = list(traverse_util.flatten_dict(variables["params"], sep="/"))
        preprocessing = norms | (transform or {"crop_pct": 1.0, "interpolation": "bicubic"})
        extra = timm_config(
            config.model.name, model, paths, shape, trained.info.class_names, preprocessing
        )
    else:
        extra = {}
        print(f"timm has no {config.model.name}: the names are those of {layout.project}")
    if layout.project == "timm" and transform is None:
        print(
            f"timm has no evaluation like {config.data.eval_transform!r}: prepare pictures as "
            "`preprocessing` in config.json says"
        )
    named = weights.dump(model, variables, layout)
    if type(model).__name__ == "ViT":
        named["pos_embed"] = _positions(model, named.get("pos_embed"), shape)
    if type(model).__name__ == "InceptionV3":
        # Of use in training only; timm's model returns its logits in evaluation too.
        named = {name: a for name, a in named.items() if not name.startswith("AuxLogits.")}
    extra |= {"layout": layout.project}
    return save(named, metadata={"format": "pt"}), extra


def to_stablehlo(logits: Logits, shape: tuple[int, int, int]) -> bytes:
    """The serialized program for `PLATFORMS`; b is symbolic."""
    spec = jax.ShapeDtypeStruct((*jax_export.symbolic_shape("b"), *shape), jnp.uint8)
    return bytes(jax_export.export(jax.jit(logits), platforms=PLATFORMS)(spec).serialize())


def run_stablehlo(data: bytes) -> Logits:
    """The program of a file, as a function."""
    return jax_export.deserialize(bytearray(data)).call


def compare(file: str, exported: Logits, logits: Logits, shape, tolerance: float) -> None:
    """Runs both on random pictures and prints the largest difference.

    Raises:
      UserError: it is above `tolerance` times the largest logit.
    """
    rng = np.random.default_rng(0)
    differences, largest = [], 0.0
    for batch in BATCHES:
        images = rng.integers(0, 256, (batch, *shape), np.uint8)
        expected = np.asarray(jax.jit(logits)(images))
        differences.append(np.abs(np.asarray(exported(images)) - expected).max())
        largest = max(largest, np.abs(expected).max())
    difference = float(np.max(differences))
    text = f"logits of up to {largest:.3g} differ from the model's by {difference:.1e} at most"
    if not difference <= tolerance * largest:
        raise UserError(f"{file}: {text}: it is not the same model; do not use it")
    print(f"{file}: batches of {BATCHES[0]} and {BATCHES[1]}: {text}")


def main(argv: list[str] | None = None) -> int:
    """Flags -> files, compared with the model."""
    parser = cli.create_parser("export", __doc__)
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="a workdir")
    parser.add_argument("--to", required=True, metavar="DIR", help="made if it is not there")
    parser.add_argument("--format", required=True, choices=("safetensors", "stablehlo", "onnx"))
    args = parser.parse_args(argv)
    _check_installed(args.format)
    trained = load_trained(args.checkpoint)
    _check_trained(trained, args)
    file = pathlib.Path(args.to).expanduser() / f"model.{args.format}"
    _check_ours(file, args.format)

    shape, extra, onnx = image_shape(trained), {}, args.format == "onnx"
    # onnxruntime has no bfloat16 convolutions on the CPU.
    logits = make_logits(trained, "float32" if onnx else None)
    if args.format == "safetensors":
        data, extra = to_safetensors(trained, shape)
    else:
        data = (to_onnx if onnx else to_stablehlo)(logits, shape)
    description = json.dumps(_describe(trained, shape, args.format) | extra, indent=2) + "\n"
    _write({file: data, file.with_name("config.json"): description.encode()})
    print(f"{file}: {len(data):,} bytes")
    if args.format != "safetensors":
        exact = onnx or (jax.default_backend() == "cpu" and trained.config.model.dtype == "float32")
        run = (run_onnx if onnx else run_stablehlo)(file.read_bytes())
        with jax.default_matmul_precision("highest" if onnx else "default"):
            compare(str(file), run, logits, shape, 1e-4 if exact else 2e-2)
    return 0


def _describe(trained: Trained, shape: tuple[int, int, int], form: str) -> dict[str, Any]:
    data = trained.config.data
    norms = {"mean": list(data.mean), "std": list(data.std)}
    inside = form != "safetensors"
    layout = ["b", *shape] if inside else ["b", shape[-1], *shape[:2]]
    return {
        "exported_by": "imgcls",
        "format": form,
        "model": trained.config.model.name,
        "class_names": list(trained.info.class_names),
        "input": {"dtype": "uint8" if inside else "float32", "shape": layout},
        "preprocessing": {"transform": data.eval_transform, "channels": data.channels, **norms},
        "normalised": "inside the model" if inside else "before the model",
        "output": OUTPUTS[trained.objective.task],
    }


def _positions(model, learned: np.ndarray | None, shape: tuple[int, int, int]) -> np.ndarray:
    """`pos_embed` `[1, N, D]` as an array, for pictures of this shape."""
    rows, columns = (side // model.patch_size for side in shape[:2])
    prefix = model.prefix_tokens
    if learned is None:
        table = np.pad(sincos2d(rows, columns, model.width), ((prefix, 0), (0, 0)))
        return table[None]
    if learned.shape[1] == prefix + rows * columns:
        return learned
    return np.array(resample_positions(jnp.asarray(learned), (rows, columns), prefix))


def _check_installed(form: str) -> None:
    file = "requirements-onnx.txt" if form == "onnx" else "requirements.txt"
    needed = {"stablehlo": ("flatbuffers",), "onnx": ("jax2onnx", "onnxruntime")}
    for package in needed.get(form, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"--format={form} needs {package}: run `pip install -r {file}`")


def _check_trained(trained: Trained, args: argparse.Namespace) -> None:
    check_classifies(trained, args.checkpoint)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((trained.params, trained.model_state)))
    if args.format != "safetensors" and size > LARGEST:
        raise ConfigError(
            f"--format={args.format} holds 2 GB at most, and the parameters are "
            f"{size / 1e9:.1f} GB: use --format=safetensors"
        )


def _check_ours(file: pathlib.Path, form: str) -> None:
    """Raises a ConfigError if the files are there and not from an export of the same format."""
    config = file.with_name("config.json")
    try:
        found = json.loads(config.read_text())
        ours = found["exported_by"] == "imgcls" and found["format"] == form
    except (OSError, ValueError, LookupError, TypeError):
        ours = False
    for path in (file, config):
        if path.exists() and not ours:
            raise ConfigError(
                f"--to={file.parent}: {path.name} there is not of an export as {form}: give "
                "another folder"
            )


def _write(files: dict[pathlib.Path, bytes]) -> None:
    for path, data in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as e:
            raise ConfigError(f"--to={path.parent}: can't be written: {cli.one_line(e)}") from e


if __name__ == "__main__":
    cli.run(main)
