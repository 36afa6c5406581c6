"""Reads files of weights without unpickling objects, so that untrusted files can't run code."""

import importlib.util
import json
import os
import pickle
import zipfile
from typing import Any

import numpy as np

from imgcls.core.errors import ConfigError, one_line

# Limits of an archive: unpacked bytes that are always allowed, and otherwise times its own size.
_ALWAYS_ALLOWED, _MAX_RATIO = 2**28, 20


def read(path: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a .safetensors, .npz, or .pth/.pt/.pyth/.bin file, by name.

    Raises:
      ConfigError: the file does not exist, is of another kind, is broken or contains anything but
        arrays, or torch is needed and not installed.
    """
    readers = {".safetensors": _safetensors, ".npz": _npz}
    readers |= dict.fromkeys((".pth", ".pt", ".pyth", ".bin"), _torch)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in readers:
        raise ConfigError(
            f"init_from: {path} is not a file of weights: write a .safetensors, .npz or .pth file, "
            "or a workdir"
        )
    if not os.path.isfile(path):
        raise ConfigError(f"init_from: {path}: no such file")
    try:
        arrays = readers[suffix](path)
    except ConfigError:
        raise
    except Exception as e:
        raise ConfigError(f"init_from: {path} can't be read: {one_line(e)}") from e
    return {name: np.asarray(array) for name, array in arrays.items()}


def download(name: str) -> str:
    """Downloads `model.safetensors` of a timm model from the Hugging Face Hub, or finds it in the
    local cache.

    Args:
      name: timm's name with its tag, such as "resnet50.a1_in1k".

    Returns:
      The path of the file.

    Raises:
      ConfigError: the model does not exist, or there is no connection.
    """
    from huggingface_hub import hf_hub_download, logging

    # Warnings of every retry would hide the error message.
    logging.set_verbosity_error()
    try:
        return hf_hub_download(f"timm/{name}", "model.safetensors")
    except Exception as e:
        raise ConfigError(
            f"init_from: can't download timm:{name} from huggingface.co: {one_line(e)}; without a "
            "connection write the path of a file: timm:/path/model.safetensors"
        ) from e


def find_config(path: str, on_hub: bool) -> str | None:
    """Returns the path of the `config.json` beside a file of weights, or None.

    Args:
      path: path of the weights.
      on_hub: whether `path` is a timm model's name if there is no such file.
    """
    if on_hub and not os.path.exists(path):
        from huggingface_hub import hf_hub_download, logging

        logging.set_verbosity_error()
        try:
            return hf_hub_download(f"timm/{path}", "config.json")
        except Exception:
            # Without it, or without a connection, which matters when the weights are downloaded.
            return None
    file = os.path.join(os.path.dirname(path), "config.json")
    return file if os.path.isfile(path) and os.path.isfile(file) else None


def read_json(path: str) -> Any:
    """Reads a JSON file; raises a ConfigError if it is not valid."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as e:
        raise ConfigError(f"init_from: {path} can't be read: {one_line(e)}") from e


def _safetensors(path: str) -> dict:
    # safetensors.numpy does not support bfloat16.
    from safetensors.flax import load_file

    return load_file(path)


def _npz(path: str) -> dict:
    _check_zip(path)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _check_zip(path: str) -> None:
    """Rejects an archive that would unpack to far more bytes than its own size (a zip bomb)."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    unpacked, packed = sum(m.file_size for m in members), os.path.getsize(path)
    if unpacked > max(_ALWAYS_ALLOWED, _MAX_RATIO * packed):
        raise ValueError(f"{packed:,} bytes would unpack to {unpacked:,}")
    if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
        raise ValueError("its compression is not one that NumPy writes")


def _torch(path: str) -> dict:
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            f"init_from: {path}: reading it needs torch: run `pip install torch "
            "--index-url https://download.pytorch.org/whl/cpu`, or write a .safetensors file"
        )
    import torch  # pyright: ignore[reportMissingImports] (only some users have it)

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise ConfigError(
            f"init_from: {path} is refused: it contains more than arrays, and reading it could run "
            "code; write a .safetensors file"
        ) from e
    for key in ("state_dict", "model", "model_state"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    named = loaded.items() if isinstance(loaded, dict) else [("the file", loaded)]
    wrong = [n for n, value in named if not isinstance(n, str) or not torch.is_tensor(value)]
    if wrong or not isinstance(loaded, dict):
        raise ConfigError(f"init_from: {path}: {one_line(repr(wrong[0]))} is not a named array")
    return {n: (v.float() if v.is_floating_point() else v).numpy() for n, v in named}
