"""Gray images of more than 8 bits per sample."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from imgcls.audit.__main__ import main as audit
from imgcls.core import log
from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.create import create_reader, open_split
from imgcls.data.decode.image import EncodedImage, decode_image
from tests.conftest import exit_code

RAMP = np.arange(16 * 16).reshape(16, 16)


def encode(pixels: np.ndarray, format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def tiff_of_12_bits(values: np.ndarray) -> bytes:
    """A TIFF of packed 12-bit samples, which Pillow reads but does not write."""
    height, width = values.shape
    pairs = values.reshape(-1, 2)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: height}
    tags[279] = len(packed)
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed


@pytest.mark.parametrize("channels", [1, 3])
def test_32_bits_need_a_declared_range(channels):
    data = encode(RAMP.astype(np.int32), "TIFF")
    with pytest.raises(DataError, match="^a: has samples of 32 bits .the largest is 255.*bits"):
        decode_image(data, "a", channels=channels)
    pixels = decode_image(data, "a", channels=channels, bits=8)
    np.testing.assert_array_equal(pixels, np.repeat(RAMP[..., None], channels, -1))
    deep = encode((RAMP * 257).astype(np.int32), "TIFF")
    np.testing.assert_array_equal(decode_image(deep, "a", bits=16)[..., 0], RAMP)
    with pytest.raises(DataError, match="^a: has samples from 0 to 65,535, but .*=12 allows 0"):
        decode_image(deep, "a", bits=12)
    with pytest.raises(DataError, match="samples from -255 to 0, but config.data.bits=8"):
        decode_image(encode(-RAMP.astype(np.int32), "TIFF"), "a", bits=8)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_12_bits_in_16(format, capsys):
    data = encode((RAMP * 16 + 15).astype(np.uint16), format)
    log.warn_once.cache_clear()
    assert decode_image(data, "a").max() == 15
    assert decode_image(data, "b").max() == 15
    line = "16 bits that use at most 12 of these and look almost black; if that is the range of all"
    assert capsys.readouterr().err.count(line) == 1
    image = EncodedImage(data, "a", bits=12)
    np.testing.assert_array_equal(image.crop((0, 0, 16, 16))[..., 1], RAMP)
    assert capsys.readouterr().err == ""


def test_a_tiff_of_12_bits_declares_its_range():
    data = tiff_of_12_bits(RAMP * 16 + 7)
    np.testing.assert_array_equal(decode_image(data, "a", channels=1)[..., 0], RAMP)


def test_color_of_16_bits_has_no_declared_range():
    """Pillow reads the upper 8 bits of each sample."""
    header = b"II*\0" + struct.pack("<IH", 8, 10)
    samples = (np.stack([RAMP] * 3, -1) * 257).astype("<u2").tobytes()
    start = 8 + 2 + 120 + 4
    fields = [
        *((256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 3, start), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, start + 6), (277, 3, 1, 3), (278, 4, 1, 16), (279, 4, 1, len(samples))),
        (284, 3, 1, 1),
    ]
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    data = header + entries + bytes(4) + struct.pack("<3H", 16, 16, 16) + samples
    np.testing.assert_array_equal(decode_image(data, "a"), np.stack([RAMP] * 3, -1))
    with pytest.raises(DataError, match="^a: is a color image of 16 bits per sample, but config"):
        decode_image(data, "a", bits=12)


def write_folder(root) -> str:
    """Two classes of noise of 12 bits in PNGs of 16."""
    rng = np.random.default_rng(0)
    for number in range(20):
        folder = root / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return f"folder:{root}"


def test_audit_says_why_images_are_dark(tmp_path, capsys):
    source = write_folder(tmp_path / "data")
    arguments = [f"--data={source}", f"--out={tmp_path / 'audit'}"]
    assert exit_code(lambda: audit(arguments)) == 1
    line = "finding: quality: 20 gray images of 16 bits with values of at most 12 bits, which look"
    assert line in capsys.readouterr().out
    assert exit_code(lambda: audit([*arguments, "--bits=12"])) == 0
    out = capsys.readouterr().out
    assert "12 bits" not in out and "almost black" not in out
    assert exit_code(lambda: audit([*arguments, "--bits=40"])) == 2


def test_bits_come_from_the_config(tmp_path):
    config = default_config()
    config.data.source = write_folder(tmp_path)
    config.data.eval_transform = config.data.train_transform = "resize((8, 8))"
    source = open_split(config, "train")
    for train in (True, False):
        config.data.bits = 12
        reader = create_reader(config, source, train=train)
        assert 100 < reader.example(0)["image"].mean() < 155
        config.data.bits = 7
        with pytest.raises(ConfigError, match="config.data.bits=7: must be 8 to 31"):
            create_reader(config, source, train=train)
