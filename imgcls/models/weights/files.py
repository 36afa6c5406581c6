"""Reading files of weights. Nothing here unpickles: a stranger's file must not run code."""

import importlib.util
import os
import pickle
import zipfile

import numpy as np

from imgcls.core.errors import ConfigError, one_line

# Bytes that any file of weights may unpack to, and how many times its size beyond.
_ROOM, _MAX_RATIO = 2**28, 20


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors, .npz, or .pth/.pt/.bin file, by name.

    Raises:
      ConfigError: no such file, another kind, one that is broken or holds anything but arrays, or
        torch is needed and not installed.
    """
    readers = {".safetensors": _safetensors, ".npz": _npz}
    readers |= dict.fromkeys((".pth", ".pt", ".bin"), _torch)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in readers:
        raise ConfigError(
            f"init_from: {path} is no file of weights: write a .safetensors, .npz or .pth file, "
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
    """Path of `model.safetensors` of a timm model, from the Hugging Face hub or its local cache.

    Args:
      name: as timm writes it, with its tag: "resnet50.a1_in1k".

    Raises:
      ConfigError: there is no such model, or no connection.
    """
    from huggingface_hub import hf_hub_download, logging

    # Its warnings at each of several tries would bury the one line that tells.
    logging.set_verbosity_error()
    try:
        return hf_hub_download(f"timm/{name}", "model.safetensors")
    except Exception as e:
        raise ConfigError(
            f"init_from: timm:{name} could not be had from huggingface.co: {one_line(e)}; without "
            "a connection write the path of a file: timm:/path/model.safetensors"
        ) from e


def _safetensors(path: str) -> dict:
    # Its NumPy reader has no bfloat16.
    from safetensors.flax import load_file

    return load_file(path)


def _npz(path: str) -> dict:
    _check_zip(path)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _check_zip(path: str) -> None:
    """Refuses a file that would unpack to far more memory than weights ever save."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    unpacked, packed = sum(m.file_size for m in members), os.path.getsize(path)
    if unpacked > max(_ROOM, _MAX_RATIO * packed):
        raise ValueError(f"{packed:,} bytes would unpack to {unpacked:,}")
    if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
        raise ValueError("it is compressed in a way that NumPy does not write")


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
            f"init_from: {path} is refused: it holds more than arrays, and reading that could run "
            "its code; write a .safetensors file"
        ) from e
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    named = loaded.items() if isinstance(loaded, dict) else [("the file", loaded)]
    wrong = [n for n, value in named if not isinstance(n, str) or not torch.is_tensor(value)]
    if wrong or not isinstance(loaded, dict):
        raise ConfigError(f"init_from: {path}: {one_line(repr(wrong[0]))} is no array of a name")
    return {n: (v.float() if v.is_floating_point() else v).numpy() for n, v in named}
