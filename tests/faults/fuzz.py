"""Damages files at random and reads them: `python tests/faults/fuzz.py --minutes=5`.

Everything that reads strangers' files is tried: the decoder, whole and in parts, by each of its
libraries; the label files; zips, records and weights. Only a DataError or a ConfigError may come
out. Batches of cases run in processes of their own under a bound of memory, so that a crash, a hang
and a blow-up are seen; a case is made again from its number: `--kind=jpeg --only=1234`.
"""

import argparse
import collections
import contextlib
import io
import json
import logging
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from unittest import mock

import numpy as np
from PIL import Image

REPO = pathlib.Path(__file__).resolve().parents[2]
BATCH = 200  # cases of a process
CASE_SECONDS = 20  # of the processor, that one case may take
MEMORY = 2 << 30  # bytes that the process may hold at most
# Values at which readers go wrong.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Cuts, flips, overwrites, repeats and moves parts of a file, mostly near its beginning."""
    out = bytearray(data)
    for _ in range(rng.geometric(0.6)):
        if not out:
            break
        end = len(out) if rng.random() < 0.5 else min(len(out), 600)
        at = int(rng.integers(end))
        way = rng.integers(7)
        if way == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif way == 1:
            out[at] = int(rng.integers(256))
        elif way == 2:
            form = (">", "<")[rng.integers(2)] + ("B", "H", "I")[rng.integers(3)]
            value = EDGES[rng.integers(len(EDGES))] % (1 << 8 * struct.calcsize(form))
            out[at : at + struct.calcsize(form)] = struct.pack(form, value)
        elif way == 3:
            del out[at:]
        elif way == 4:
            del out[at : at + int(rng.integers(1, 64))]
        elif way == 5:
            source = int(rng.integers(len(out)))
            out[at:at] = out[source : source + int(rng.integers(1, 64))]
        else:
            out[at : at + 16] = rng.bytes(min(16, len(out) - at))
    return bytes(out)


def damage_text(text: str, rng: np.random.Generator) -> bytes:
    """Of JSON another value in place of one, of any text a damaged byte."""
    if rng.random() < 0.6 and text[:1] in "[{":
        content = json.loads(text)
        _replace_one(content, rng)
        return json.dumps(content).encode()
    return damage(text.encode(), rng)


VALUES = (None, True, 0, -1, 1e308, "", "x", "\n", "../..", "\ud800", [], [[]], {}, {"a": []}, [1])


def _replace_one(content, rng: np.random.Generator) -> None:
    """Another value, or none, at a random place of nested lists and dicts."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return
        key = keys[rng.integers(len(keys))]
        inner = content[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            break
        content = inner
    if rng.random() < 0.2:
        del content[key]
    else:
        content[key] = VALUES[rng.integers(len(VALUES))]


def mend_png(data: bytes) -> bytes:
    """The same with the checksums that its chunks should have, so that more than these is tried."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + struct.unpack(">I", out[at : at + 4])[0]
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))[: len(out) - end]
        at = end + 4
    return bytes(out)


def seeds() -> dict[str, list[bytes]]:
    """Good files of each kind, which are then damaged."""
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 48 * 40 * 3).reshape(40, 48, 3) + rng.integers(0, 50, (40, 48, 3))
    picture = Image.fromarray(smooth.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    jpegs = [
        dict(quality=80),
        dict(quality=95, subsampling=0, restart_marker_blocks=2),
        dict(progressive=True, exif=exif),
        dict(icc_profile=bytes(300), comment=b"x" * 40),
    ]
    found = {"jpeg": [_save(picture, "JPEG", **options) for options in jpegs]}
    found["jpeg"] += [_save(picture.convert(mode), "JPEG") for mode in ("L", "CMYK")]
    found["png"] = [_save(picture, "PNG"), _save(picture.convert("I;16"), "PNG")]
    found["png"].append(_save(picture.quantize(16), "PNG", transparency=3))
    frames = [picture.quantize(8), picture.rotate(90).quantize(8)]
    found["gif"] = [_save(frames[0], "GIF", save_all=True, append_images=frames[1:])]
    found["webp"] = [_save(picture, "WEBP", lossless=on, exif=exif) for on in (True, False)]
    found["webp"].append(_save(picture, "WEBP", save_all=True, append_images=[picture.rotate(9)]))
    kinds = (None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits")
    found["tiff"] = [_save(picture, "TIFF", compression=kind) for kind in kinds]
    found["tiff"] += [_save(picture.convert("L").convert(mode), "TIFF") for mode in ("I", "I;16")]
    found["tiff"].append(_save(picture.convert("1"), "TIFF", compression="group4"))
    found["other"] = [_save(picture, "BMP"), _save(picture, "PPM"), _save(frames[0], "BMP")]
    return found


def _save(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def read_picture(data: bytes, rng: np.random.Generator, bits: int | None = None) -> str:
    """By each library, whole and in part; all must agree on whether the whole can be read."""
    from imgcls.data.decode import image as decode

    libraries = {
        "turbojpeg": decode.get_decoder() or decode._FULL_DECODER,
        "simplejpeg": decode._FULL_DECODER,
    }
    channels, seed = (1, 3)[rng.integers(2)], int(rng.integers(1 << 30))
    options = {"channels": channels, "bits": bits}
    verdicts = {}
    for name, library in libraries.items():
        with mock.patch.object(decode, "_decoder", lambda library=library: library):
            verdicts[name] = _read_ways(data, options, np.random.default_rng(seed))
    assert len(set(verdicts.values())) == 1, verdicts
    return verdicts.popitem()[1]


def _read_ways(data: bytes, options: dict, rng: np.random.Generator) -> str:
    """The verdict on the whole picture.

    What can be read whole can be read in part, to the same pixels. Of a JPEG that is broken, but
    not cut off, a part may be read too.
    """
    whole = _read(data, options, lambda image: image.pixels)
    shape = _read(data, options, lambda image: image.shape)
    top, left, height, width = box = _draw_box(shape or (1, 1), rng)
    part = _read(data, options, lambda image: image.crop(box))
    sides = [-(-side // 16) * 8 for side in (shape or (1, 1))[:2]]
    half = _read(data, options, lambda image: image.crop((0, 0, *sides), 1))
    if whole is not None:
        assert shape == whole.shape
        assert np.array_equal(part, whole[top : top + height, left : left + width]), box
        assert half is not None and half.ndim == 3
    elif not (data.startswith(b"\xff\xd8") and b"\xff\xd9" in data[-64:]):
        assert part is None and half is None
    return "refused" if whole is None else "read"


def _read(data: bytes, options: dict, take):
    """What is taken of a picture; None where it is refused."""
    from imgcls.core.errors import DataError
    from imgcls.data.decode import image as decode

    try:
        taken = take(decode.EncodedImage(data, "case", **options))
    except DataError as e:
        assert "\n" not in str(e)
        return None
    # Kept beyond the next call in this thread.
    return taken.copy() if isinstance(taken, np.ndarray) else taken


def _draw_box(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of any part."""
    top, left = (int(rng.integers(side)) for side in shape[:2])
    return (
        top,
        left,
        *(int(rng.integers(1, side + 1)) for side in (shape[0] - top, shape[1] - left)),
    )


def read_labels(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """A damaged label file; what it still names is read to the labels and metadata."""
    from tests.faults.label_files import LABELS

    name = list(LABELS)[rng.integers(len(LABELS))]
    (folder / name).write_bytes(damage_text(LABELS[name], rng))
    for picture in ("a.jpg", "b.jpg"):
        (folder / picture).write_bytes(b"picture")
    options = {
        "multi_label": (None, False, True)[rng.integers(3)],
        "question": (None, "k", "choice")[rng.integers(3)],
        "label_columns": ((), (), ("cat", "dog"))[rng.integers(3)],
    }
    read_all(f"{name.split('.')[0]}:{folder / name}", **options)


def read_all(spec: str, **options) -> None:
    """Opens all splits of a source, and everything of each example."""
    from imgcls.core.errors import UserError
    from imgcls.data.sources.open import open_dataset

    data = open_dataset(spec, on_error="skip", write_classes=True, **options)
    for split in data.splits:
        source = data.open(split)
        source.labels()
        for index in range(len(source)):
            json.dumps([source.name(index), source.group(index), source.metadata(index)])
            with contextlib.suppress(UserError):
                source[index]


def read_zip(folder: pathlib.Path, rng: np.random.Generator) -> None:
    file = io.BytesIO()
    method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[rng.integers(2)]
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in ("cat/a.jpg", "dog/b.jpg", "dog/c.jpg"):
            archive.writestr(name, bytes(200))
    (folder / "all.zip").write_bytes(damage(file.getvalue(), rng))
    read_all(f"folder:{folder / 'all.zip'}")


def read_records(folder: pathlib.Path, rng: np.random.Generator) -> None:
    from imgcls.convert import convert

    good = pathlib.Path(tempfile.gettempdir()) / "good_records"
    if not good.exists():
        from tests.faults.label_files import LABELS

        (folder / "own.csv").write_text(LABELS["manifest.csv"])
        for picture in ("a.jpg", "b.jpg"):
            (folder / picture).write_bytes(bytes(500))
        convert(f"manifest:{folder / 'own.csv'}", str(good))
    files = sorted(p for p in good.iterdir() if p.stat().st_size)
    shutil.copytree(good, folder / "set")
    chosen = files[rng.integers(len(files))]
    is_text = chosen.suffix in (".json", ".jsonl")
    text = chosen.read_text() if is_text else ""
    data = damage_text(text, rng) if is_text else damage(chosen.read_bytes(), rng)
    (folder / "set" / chosen.name).write_bytes(data)
    read_all(f"records:{folder / 'set'}")


def read_weights(folder: pathlib.Path, rng: np.random.Generator) -> None:
    from safetensors.numpy import save

    from imgcls.models.weights import files

    arrays = {"a": np.ones((3, 4), np.float32), "b": np.arange(5, dtype=np.int64)}
    packed = io.BytesIO()
    (np.savez, np.savez_compressed)[rng.integers(2)](packed, **arrays)
    kinds = {"w.npz": packed.getvalue(), "w.safetensors": save(arrays)}
    with contextlib.suppress(ImportError):
        import torch

        file = io.BytesIO()
        torch.save({"state_dict": {k: torch.from_numpy(v) for k, v in arrays.items()}}, file)
        kinds["w.pth"] = file.getvalue()
    name = list(kinds)[rng.integers(len(kinds))]
    (folder / name).write_bytes(damage(kinds[name], rng))
    files.read(str(folder / name))


READERS = {
    "labels": read_labels,
    "zip": read_zip,
    "records": read_records,
    "weights": read_weights,
}
PICTURES = ("jpeg", "png", "gif", "webp", "tiff", "other")


def run_case(kind: str, number: int, files: dict[str, list[bytes]]) -> str:
    """Runs one case; 'read' or 'refused', all else is raised."""
    from imgcls.core.errors import ConfigError, DataError

    rng = np.random.default_rng((number, len(kind)))
    try:
        if kind in PICTURES:
            data = damage(files[kind][rng.integers(len(files[kind]))], rng)
            bits = (None, 8, 12)[rng.integers(3)]
            return read_picture(mend_png(data) if kind == "png" else data, rng, bits)
        else:
            with tempfile.TemporaryDirectory() as folder:
                READERS[kind](pathlib.Path(folder), rng)
    except (ConfigError, DataError):
        return "refused"
    return "read"


def most_memory() -> int:
    """Bytes that this process held at most; the system's other count goes on from its parent's."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def run_batch(kind: str, first: int, count: int) -> None:
    """In a process of its own: prints a line before each case and after the last."""
    logging.disable(logging.CRITICAL)
    files = seeds() if kind in PICTURES else {}
    ends = collections.Counter()
    for number in range(first, first + count):
        print(number, flush=True)
        start = time.process_time()
        ends[run_case(kind, number, files)] += 1
        assert time.process_time() - start < CASE_SECONDS, "too slow"
    peak = most_memory()
    assert peak < MEMORY, f"{peak:,} bytes"
    print(json.dumps({**ends, "peak": peak}))


def start_batch(kind: str, first: int, count: int) -> tuple[dict, str]:
    """Runs a batch; its counts, and what went wrong ('' if nothing did)."""
    args = [sys.executable, __file__, f"--kind={kind}", f"--only={first}", f"--count={count}"]
    with tempfile.TemporaryDirectory() as folder:
        env = {"PYTHONPATH": str(REPO), "JAX_PLATFORMS": "cpu", "PATH": "", "TMPDIR": folder}
        try:
            done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired as e:
            return {}, f"{kind}: hangs at {(e.stdout or b'').decode().split()[-1:]}"
    lines = done.stdout.splitlines() or [""]
    if done.returncode == 0:
        return json.loads(lines[-1]), ""
    end = done.stderr.strip().splitlines()[-12:]
    return {}, f"{kind} --only={lines[-1]} (exit {done.returncode}): " + "\n  ".join(end)


def main() -> int:
    """Runs batches of every kind in turn for some minutes; tells counts and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--kind", choices=(*PICTURES, *READERS))
    parser.add_argument("--only", type=int, help="with --kind: the case of this number")
    parser.add_argument("--count", type=int, default=1, help="with --only: and those after it")
    args = parser.parse_args()
    if args.only is not None:
        run_batch(args.kind, args.only, args.count)
        return 0
    total, wrong, peak = collections.Counter(), 0, 0
    first, end = args.seed, time.monotonic() + 60 * args.minutes
    while time.monotonic() < end:
        for kind in [args.kind] if args.kind else (*PICTURES, *READERS):
            counts, problem = start_batch(kind, first, BATCH)
            peak = max(peak, counts.pop("peak", 0))
            total.update({f"{kind} {end}": count for end, count in counts.items()})
            if problem:
                wrong += 1
                print(problem, flush=True)
        first += BATCH
    print(f"{sum(total.values()):,} cases, at most {peak / 2**20:.0f} MiB: {dict(total)}")
    print(f"{wrong} batches went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
