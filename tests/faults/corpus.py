"""Broken and hostile pictures, made from real ones: what of them is read, and what refused."""

import io
import os
import pathlib
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

READ, REFUSED, EITHER = "read", "refused", "either"
# Name of the file, its verdict, and its bytes or what makes it at a path.
Entry = tuple[str, str, bytes | Callable[[pathlib.Path], None]]


def real_jpegs(shared: pathlib.Path, count: int = 4) -> list[bytes]:
    """The smallest baseline colour JPEGs among the first of ImageNet's."""
    with tarfile.open(shared / "imagenet_mini" / "ILSVRC2012_img_val.tar") as archive:
        members = [m for _, m in zip(range(60), archive, strict=False) if m.isfile()]
        found = [archive.extractfile(m).read() for m in members]
    usable = [d for d in found if b"\xff\xc0" in d and Image.open(io.BytesIO(d)).mode == "RGB"]
    return sorted(usable, key=len)[:count]


def corpus(jpegs: list[bytes]) -> Iterator[Entry]:
    """More than 60 files; what makes them draws nothing."""
    jpeg = jpegs[0]
    yield from _cut(jpegs)
    yield from _flipped(jpegs)
    yield from _edited_headers(jpeg)
    yield from _unusual(jpeg)
    yield from _bombs(jpeg)
    yield from _no_pictures(jpeg)
    yield from _odd_files(jpeg)
    yield from _odd_names(jpeg)


def _cut(jpegs: list[bytes]) -> Iterator[Entry]:
    yield "empty.jpg", REFUSED, b""
    for share in (0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99):
        yield f"cut_{share}.jpg", REFUSED, jpegs[0][: int(len(jpegs[0]) * share)]
    yield "without_end.jpg", REFUSED, jpegs[1][:-2]
    yield "tail_of_zeros.jpg", REFUSED, jpegs[1][: len(jpegs[1]) // 2] + bytes(5000)
    yield "only_magic.jpg", REFUSED, b"\xff\xd8\xff"
    for format in ("PNG", "GIF", "WEBP", "BMP", "TIFF"):
        whole = save(_open(jpegs[0]), format)
        yield f"cut.{format.lower()}", REFUSED, whole[: len(whole) // 2]
        yield f"magic.{format.lower()}", REFUSED, whole[:12]


def _flipped(jpegs: list[bytes]) -> Iterator[Entry]:
    """One bit at places over header and pixels: some are still read, by all libraries or none."""
    for number, data in enumerate(jpegs):
        for place in (3, 25, 160, 400, len(data) // 2, len(data) - 200):
            flipped = bytearray(data)
            flipped[place] ^= 0x10
            yield f"flip_{number}_{place}.jpg", EITHER, bytes(flipped)
    # An end, or another scan, amid the pixels.
    middle = len(jpegs[0]) * 3 // 4
    for name, marker in (("end", b"\xff\xd9"), ("scan", b"\xff\xda"), ("table", b"\xff\xc4")):
        yield f"marker_{name}.jpg", EITHER, jpegs[0][:middle] + marker + jpegs[0][middle + 2 :]


def _edited_headers(jpeg: bytes) -> Iterator[Entry]:
    """Another precision, size, number of components or sampling in a JPEG's frame header."""
    frame = jpeg.index(b"\xff\xc0") + 4
    edits = {
        "precision": (0, b"\x0c", REFUSED),
        "zero_height": (1, b"\0\0", REFUSED),
        "zero_width": (3, b"\0\0", REFUSED),
        "taller": (1, b"\x40\0", EITHER),
        "vast": (1, b"\xff\xff\xff\xff", REFUSED),
        "no_components": (5, b"\0", REFUSED),
        "many_components": (5, b"\xff", REFUSED),
        "sampling": (7, b"\xff", REFUSED),
        "table": (8, b"\x07", EITHER),
    }
    for name, (place, value, verdict) in edits.items():
        at = frame + place
        yield f"header_{name}.jpg", verdict, jpeg[:at] + value + jpeg[at + len(value) :]
    yield "arithmetic.jpg", EITHER, jpeg.replace(b"\xff\xc0", b"\xff\xc9", 1)
    yield "lossless.jpg", REFUSED, jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1)


def _unusual(jpeg: bytes) -> Iterator[Entry]:
    """What people have and may use: depths, modes, animations, broken metadata, odd suffixes."""
    picture = _open(jpeg).resize((61, 47))
    deep = Image.fromarray((np.arange(61 * 47) * 22).astype(np.uint16).reshape(47, 61))
    yield "16_bit.png", READ, save(deep, "PNG")
    yield "16_bit.tiff", READ, save(deep, "TIFF")
    yield "float.tiff", REFUSED, save(picture.convert("F"), "TIFF")
    moving = dict(save_all=True, append_images=[picture.rotate(90), picture.rotate(180)])
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        yield f"animated.{format.lower()}", READ, save(picture, format, **moving)
    yield "cmyk.jpg", READ, save(picture.convert("CMYK"), "JPEG")
    yield "cmyk.tif", READ, save(picture.convert("CMYK"), "TIFF")
    yield "palette.png", READ, save(picture.quantize(7), "PNG", transparency=2)
    yield "bits.png", READ, save(picture.convert("1"), "PNG")
    yield "alpha.webp", READ, save(picture.convert("RGBA"), "WEBP")
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        yield f"1x1.{format.lower()}", READ, save(picture.resize((1, 1)), format)
    yield "long.png", READ, save(picture.resize((20_000, 3)), "PNG")
    yield "tall.jpg", READ, save(picture.resize((2, 20_000)), "JPEG")
    yield "bad_exif.jpg", READ, save(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    yield "bad_icc.jpg", READ, save(picture, "JPEG", icc_profile=b"no profile" * 9)
    yield "bad_icc.png", READ, save(picture, "PNG", icc_profile=b"no profile" * 9)
    yield "png_named.jpg", READ, save(picture, "PNG")
    yield "jpeg_named.PNG", READ, jpeg


def _bombs(jpeg: bytes) -> Iterator[Entry]:
    """Small files that say, or unpack to, very much."""
    vast = struct.pack(">II", 60_000, 60_000)
    png = save(Image.new("L", (8, 8)), "PNG")
    yield "bomb.png", REFUSED, png_with(png, b"IHDR", vast + b"\x08\0\0\0\0")
    yield (
        "bomb_31_bits.png",
        REFUSED,
        png_with(png, b"IHDR", b"\x7f\xff\xff\xff" * 2 + b"\x08\0\0\0\0"),
    )
    packed = zlib.compress(bytes(80_000_000), 9)
    for kind in (b"zTXt", b"iCCP"):
        hidden = png_chunk(kind, b"x\0\0" + packed)
        yield f"bomb_{kind.decode()}.png", EITHER, png[:33] + hidden + png[33:]
    # Zeros are a grey picture of 20,000 x 20,000: 400 MB of 388 kB.
    pixels = png_chunk(b"IDAT", packed * 5)
    header = png_chunk(b"IHDR", struct.pack(">II", 20_000, 20_000) + b"\x08\0\0\0\0")
    yield "bomb_20000.png", REFUSED, png[:8] + header + pixels + png_chunk(b"IEND", b"")
    gif = bytearray(save(Image.new("P", (8, 8)), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    yield "bomb.gif", REFUSED, bytes(gif)
    webp = bytearray(save(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    webp[21:25] = b"\xff\xff\xff\x0f"
    yield "bomb.webp", REFUSED, bytes(webp)
    bmp = bytearray(save(Image.new("L", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield "bomb.bmp", REFUSED, bytes(bmp)
    tiff = save(Image.new("L", (8, 8)), "TIFF")
    for tag in (256, 257):  # width and height
        at = tiff.index(struct.pack("<HH", tag, 4 if struct.pack("<HH", tag, 4) in tiff else 3))
        tiff = tiff[: at + 2] + struct.pack("<HII", 4, 1, 60_000) + tiff[at + 12 :]
    yield "bomb.tiff", REFUSED, tiff
    progressive = save(_open(jpeg).resize((64, 64)), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    many = progressive[:last] + progressive[last:-2] * 3000 + b"\xff\xd9"
    yield "bomb_scans.jpg", REFUSED, many
    yield "sparse.jpg", REFUSED, _sparse


def _no_pictures(jpeg: bytes) -> Iterator[Entry]:
    yield "text.jpg", REFUSED, b"not a picture\n" * 50
    yield "page.png", REFUSED, b"<!doctype html><script>alert(1)</script>"
    yield "vector.png", REFUSED, b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield "postscript.jpg", REFUSED, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    yield "program.gif", REFUSED, b"\x7fELF" + bytes(500)
    yield "zeros.bmp", REFUSED, bytes(4000)
    yield "polyglot.gif", EITHER, b"GIF89a/*" + b"*/=1;alert(1);//" * 9
    yield "polyglot.jpg", READ, jpeg[:2] + b"\xff\xfe\0\x1c<script>alert(1)</script> " + jpeg[2:]
    yield "archive_behind.png", READ, save(Image.new("L", (8, 8)), "PNG") + b"PK\3\4" + bytes(90)


def _odd_files(jpeg: bytes) -> Iterator[Entry]:
    def pipe(path: pathlib.Path) -> None:
        os.mkfifo(path)

    def link(target: str) -> Callable[[pathlib.Path], None]:
        return lambda path: path.symlink_to(target)

    yield "pipe.jpg", REFUSED, pipe
    yield "dangling.jpg", REFUSED, link("nowhere.jpg")
    yield "circle.jpg", REFUSED, link("circle.jpg")
    yield "endless.jpg", REFUSED, link("/dev/zero")
    yield "linked.jpg", READ, link("jpeg_named.PNG")


def _odd_names(jpeg: bytes) -> Iterator[Entry]:
    small = save(_open(jpeg).resize((24, 24)), "JPEG")
    for name in (
        "new\nline.jpg",
        "quo'te\"s.jpg",
        "<img src=x onerror=alert(1)>.jpg",
        "a b%20&.jpg",
    ):
        yield name, READ, small
        yield f"cut {name}", REFUSED, small[:300]
    yield os.fsdecode(b"\xff\xfe bytes.jpg"), READ, small
    yield os.fsdecode(b"cut \xff\xfe.jpg"), REFUSED, small[:300]


def _sparse(path: pathlib.Path) -> None:
    """Says 50 GB, and takes none of the disk."""
    with open(path, "wb") as file:
        file.truncate(50_000_000_000)


def large() -> Iterator[Entry]:
    """Pictures about as large as are read, in what costs most memory, and one beyond."""
    side = 9_400
    rows = np.arange(side, dtype=np.uint16)[:, None] * 7 % 65_000
    grey = Image.fromarray(np.broadcast_to(rows, (side, side)).astype(np.uint16))
    small = Image.fromarray((np.asarray(grey) >> 8).astype(np.uint8))
    colour = Image.merge("RGB", (small, small, small))
    yield "16_bit.png", READ, save(grey, "PNG", compress_level=1)
    yield "palette.png", READ, save(small.convert("P"), "PNG", compress_level=1)
    yield "colour.jpg", READ, save(colour, "JPEG", quality=50)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "turned.jpg", READ, save(colour, "JPEG", quality=50, exif=exif)
    yield "progressive.jpg", READ, save(colour, "JPEG", quality=50, progressive=True, subsampling=0)
    yield "cmyk.jpg", READ, save(colour.convert("CMYK"), "JPEG", quality=50)
    yield "colour.bmp", READ, save(colour.resize((side, side // 4)), "BMP")
    vast = Image.new("1", (20_000, 20_000))
    yield "20000.png", REFUSED, save(vast, "PNG", compress_level=1)
    yield "20000.tiff", REFUSED, save(vast, "TIFF", compression="group4")
    yield "20000.gif", REFUSED, save(vast.convert("P"), "GIF")


def write(entries: Iterator[Entry], folder: pathlib.Path) -> dict[str, str]:
    """Writes files into a folder; returns their verdicts by path."""
    folder.mkdir(parents=True)
    verdicts = {}
    for name, verdict, content in entries:
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
        verdicts[str(path)] = verdict
    return verdicts


def save(image: Image.Image, format: str, **options) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(png: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with another content of its first chunk of a kind."""
    at = png.index(kind) - 4
    length = struct.unpack(">I", png[at : at + 4])[0]
    return png[:at] + png_chunk(kind, data) + png[at + 12 + length :]


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")
