"""Videos and volumes: posters, frames and slices are those of the trainer's decoders."""

import io

import numpy as np
import pytest
from PIL import Image

from imgcls.data.decode.video import EncodedVideo
from imgcls.studio.pictures.media import Opened
from tests.studio.homes import new_id


@pytest.fixture
def upload(studio):
    """Uploads files, as `{name: bytes}`; returns the images' ids."""
    made = {"request_id": new_id(), "name": "media"}
    dataset = studio.post("/api/datasets", json=made).json()["id"]

    def send(files):
        parts = [("files", item) for item in files.items()]
        answer = studio.post(f"/api/datasets/{dataset}/upload", files=parts)
        assert answer.json()["unreadable"] == []
        return answer.json()["added"]

    return send


def pixels(answer) -> np.ndarray:
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def test_slices_of_a_volume(studio, upload):
    d, h, w = np.mgrid[:10, :12, :14]
    voxels = (20 * d + h + w).astype(np.int16)
    file = io.BytesIO()
    np.save(file, voxels)
    (image,) = upload({"scan.npy": file.getvalue()})
    about = studio.get(f"/api/images/{image}").json()
    assert (about["media"], about["frames"]) == ("volume", 10)
    assert (about["height"], about["width"]) == (12, 14)
    low, high = np.percentile(voxels, (0.5, 99.5))
    for axis in range(3):
        got = pixels(studio.get(f"/api/images/{image}/slice?axis={axis}&at=4"))
        plane = ((voxels.take(4, axis) - low) / (high - low)).clip(0, 1) * 255
        assert np.abs(got - plane[..., None]).max() <= 6  # JPEG
    middle = pixels(studio.get(f"/api/images/{image}/picture"))
    assert np.array_equal(middle, pixels(studio.get(f"/api/images/{image}/slice?at=5")))
    last = studio.get(f"/api/images/{image}/slice?at=9").content
    assert studio.get(f"/api/images/{image}/slice?at=1000").content == last
    assert "is no video" in studio.get(f"/api/images/{image}/frame?at=0").json()["error"]


def test_frames_of_a_video(studio, upload, shared_data):
    path = shared_data / "video_edge" / "testsrc2_odd_height_vp9.mp4"
    if not path.exists():
        pytest.skip(f"needs {path}")
    pytest.importorskip("av")
    (image,) = upload({path.name: path.read_bytes()})
    about = studio.get(f"/api/images/{image}").json()
    assert (about["media"], about["frames"], about["height"]) == ("video", 25, 241)
    frames = EncodedVideo(path, path.name).frames([0, 8, 20]).astype(int)
    for number, frame in zip((0, 8, 20), frames, strict=True):
        got = pixels(studio.get(f"/api/images/{image}/frame?at={number}"))
        assert np.abs(got - frame).mean() < 4
    # The poster is a frame a third of the way in.
    assert np.abs(pixels(studio.get(f"/api/images/{image}/picture")) - frames[1]).mean() < 4


def test_pictures_are_encoded_anew(studio, upload):
    image = Image.fromarray(np.full((400, 1200, 3), 90, np.uint8))
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>"
    exif[0x0112] = 6  # turned by 90 degrees
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, comment=b"<script>")
    data = file.getvalue() + b"<script>alert(2)</script>"
    (added,) = upload({"a.jpg": data})
    for path in ("thumbnail?size=256", "picture", "picture?size=500", "thumbnail?size=256"):
        answer = studio.get(f"/api/images/{added}/{path}")
        assert b"script" not in answer.content and "immutable" in answer.headers["cache-control"]
        width, height = Image.open(io.BytesIO(answer.content)).size
        assert width * 3 == pytest.approx(height, abs=3)
    original = studio.get(f"/api/images/{added}/original")
    assert original.content == data
    assert original.headers["content-type"] == "application/octet-stream"
    assert original.headers["content-disposition"].startswith("attachment")
    assert "write one of" in studio.get(f"/api/images/{added}/thumbnail?size=77").json()["error"]


def test_extensions_are_by_content(tmp_path):
    path = tmp_path / "x"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path, "PNG")
    for name in ("x.svg", "x.html", "x.jpg", "x"):
        with Opened(open(path, "rb"), path, name) as opened:
            assert opened.extension == "png"
    path.write_bytes(b"<svg>")
    with Opened(open(path, "rb"), path, "x.svg") as opened:
        assert opened.extension == "bin"
