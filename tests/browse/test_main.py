"""The page of what training sees: every recipe on small stand-in data, and its values."""

import html.parser
import re

import av
import nibabel
import numpy as np
import pytest
from PIL import Image

import imgcls
from imgcls.core.config import load, override
from imgcls.core.errors import ConfigError
from imgcls.data.create import create_reader, create_train_loader, open_split
from imgcls.data.transforms.apply import transform_image
from tests.configs.test_configs import RECIPES, VIDEOS, VOLUMES, read
from tests.conftest import make_mesh

SPLITS = {"train": 4, "val": 2, "test": 2}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """Folders of pictures, videos and volumes of two classes in three splits."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in SPLITS.items():
        for name in ("cat", "dog"):
            for kind in ("pictures", "videos", "volumes"):
                (root / kind / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (48, 60, 3), np.uint8)
                Image.fromarray(pixels).save(root / "pictures" / split / name / f"{i}.png")
                write_video(root / "videos" / split / name / f"{i}.mp4", rng)
                voxels = nibabel.Nifti1Image(
                    rng.integers(0, 255, (36, 36, 36)).astype(np.uint8), np.diag([2, 2, 2, 1])
                )
                nibabel.save(voxels, root / "volumes" / split / name / f"{i}.nii.gz")
    return root


def write_video(path, rng) -> None:
    """Two seconds of noise at 30 frames per second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(60):
            pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        file.mux(stream.encode())


class Figures(html.parser.HTMLParser):
    """Number of pictures of a page; fails where one is not embedded."""

    def __init__(self, page: str):
        super().__init__()
        self.count = 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.count += 1
            assert re.match(r"data:image/(png|jpeg);base64,", dict(attrs)["src"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe(recipe, stand_ins):
    """Its transforms and batch transforms, on files of the kind it is for."""
    source = read(recipe).data.source
    kind = "videos" if source in VIDEOS else "volumes" if is_volume(source) else "pictures"
    gray = {"data.channels": 1} if kind == "volumes" else {}
    page = imgcls.browse(
        f"configs/{recipe}",
        examples=4,
        **{"data.source": f"folder:{stand_ins / kind}", "data.dir": None, **gray},
    )
    assert [shown.position for shown in page.examples.shown] == [0, 1, 2, 3]
    for shown in page.examples.shown:
        arrays = [*shown.views, *shown.batch_views, shown.evaluated]
        assert shown.label in ("cat", "dog") and all(np.isfinite(a).all() for a in arrays)
    views = len(page.examples.shown[0].views)
    mixed = views if read(recipe).data.batch_transform else 0
    stages = sum(map(len, page.examples.stages.values()))
    assert Figures(page.text).count == 4 * (2 + views + mixed) + stages


def is_volume(source: str) -> bool:
    return source.partition("/")[0] in VOLUMES


def test_examples_are_those_of_training(stand_ins, tmp_path):
    """The images and labels of the loader's first batch, and its stages one after the other."""
    overrides = [
        f"--config.data.source=folder:{stand_ins / 'pictures'}",
        "--config.data.train_transform=random_resized_crop(24)|flip|rand_augment(2, 10)",
        "--config.data.eval_transform=resize(32)|center_crop(24)",
        "--config.data.batch_transform=mixup(0.4)",
        "--config.batch_size=8",
    ]
    config = override(load("digits"), [*overrides, "--config.data.channels=3"])
    config.data.mean = config.data.std = (0.5,)
    page = imgcls.browse(config, examples=8, out=tmp_path / "b.html", example=3)
    assert (tmp_path / "b.html").read_text() == page.text
    found = page.examples
    source = open_split(config, "train")
    reader = create_reader(config, source, train=True)
    loader = create_train_loader(config, reader, make_mesh(1), 0, 1)
    (batch,) = loader
    loader.close()
    np.testing.assert_array_equal([s.views[0] for s in found.shown], batch["image"])
    names = [source.class_names[label] for label in np.asarray(batch["label"])]
    assert [s.label for s in found.shown] == names
    assert [s.name for s in found.shown] == [source.name(int(i)) for i in batch["index"]]

    # Mixed labels state the share of both images.
    images = np.array([s.views[0] for s in found.shown], float)
    following = np.roll(images, -1, 0)
    mixed = np.array([s.batch_views[0] for s in found.shown])
    share = ((mixed - following) * (images - following)).sum() / ((images - following) ** 2).sum()
    for shown, name, other in zip(found.shown, names, np.roll(names, -1), strict=True):
        if name != other:
            assert f"{share:.2f} {name}" in shown.batch_label
            assert f"{1 - share:.2f} {other}" in shown.batch_label

    stages = found.stages["train_transform"]
    assert [s.name for s in stages][:3] == ["decoded", "random_resized_crop(24)", "flip"]
    np.testing.assert_array_equal(stages[-1].image, found.shown[3].views[0])
    rng = np.random.default_rng((config.seed, 3))
    image, _ = reader._open(int(batch["index"][3]))
    for stage, transform in zip(stages[1:], reader.transforms, strict=True):
        image = transform_image(image, [transform], rng)
        np.testing.assert_array_equal(stage.image, image)


def test_command_and_mistakes(command, stand_ins, tmp_path):
    """As users type it; two views are both shown, and mistakes end in one line."""
    flags = (f"--config.data.source=folder:{stand_ins / 'pictures'}", f"--out={tmp_path}/b.html")
    done = command("browse", "--config=cifar10_simclr", "--examples=2", *flags)
    assert done.returncode == 0 and done.stdout == f"{tmp_path}/b.html\n", done.stderr
    assert "view 2" in (tmp_path / "b.html").read_text()
    for flag, message in (
        ("--examples=0", "--examples=0: must be 1 or more"),
        ("--config.data.train_transform=flop", "unknown transform 'flop'; did you mean 'flip'"),
        (f"--out={tmp_path}/b.html/c.html", "can't be written"),
    ):
        done = command("browse", "--config=digits", *flags[:1], flag)
        assert done.returncode == 2 and message in done.stderr
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ConfigError, match="none of the first 16 examples can be read: .*bad.png"):
        imgcls.browse("digits", **{"data.source": f"folder:{tmp_path}"})
