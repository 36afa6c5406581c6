"""Datasets in one `.npz` file: the published layouts, slices, and files that do not fit."""

import pickle
import zipfile

import numpy as np
import pytest

from imgcls.core.errors import ConfigError
from imgcls.data.sources.open import create_source, open_dataset


def arrays(shape=(6, 6, 6), labels=None, counts=(20, 6, 10), dtype=np.uint8) -> dict:
    """Arrays of a file of MedMNIST."""
    rng, made = np.random.default_rng(0), {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        made[f"{split}_images"] = rng.integers(0, 256, (count, *shape)).astype(dtype)
        default = (np.arange(count) % 3)[:, None].astype(np.uint8)
        made[f"{split}_labels"] = default if labels is None else labels(count)
    return made


def write(path, **made) -> str:
    np.savez_compressed(path, **made)
    return f"medmnist:{path}"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6, 6, 6), (6, 6, 6, 1)), ((6, 6), (6, 6, 1)), ((6, 6, 3), (6, 6, 3))],
)
def test_medmnist(tmp_path, shape, expected):
    made = arrays(shape)
    spec = write(tmp_path / "organ.npz", **made)
    assert open_dataset(spec).splits == ("train", "val", "test")
    for split in ("train", "val", "test"):
        source = create_source(spec, split)
        assert source.class_names == ("0", "1", "2") and not source.multi_label
        images = made[f"{split}_images"]
        assert len(source) == len(images)
        for i, image in enumerate(images):
            example = source[i]
            assert example["image"].shape == expected and example["image"].dtype == np.uint8
            np.testing.assert_array_equal(example["image"], image.reshape(expected))
            assert example["label"] == made[f"{split}_labels"][i, 0] == source.labels()[i]
            assert source.name(i) == f"{split}/{i}"


def test_published_class_names(tmp_path):
    made = arrays(labels=lambda count: np.arange(count)[:, None] % 2)
    spec = write(tmp_path / "vesselmnist3d_64.npz", **made)
    assert create_source(spec, "val").class_names == ("vessel", "aneurysm")
    spec = write(tmp_path / "nodulemnist3d.npz", **arrays())
    with pytest.raises(ConfigError, match="has 3 classes, and nodulemnist3d.npz should have 2"):
        open_dataset(spec)


def test_many_labels(tmp_path):
    made = arrays(labels=lambda count: np.eye(4, dtype=np.uint8)[np.arange(count) % 4])
    source = create_source(write(tmp_path / "chest.npz", **made), "train[:50%]")
    assert source.multi_label and source.class_names == ("0", "1", "2", "3")
    assert len(source) == 10 and source.labels().shape == (10, 4)


def test_slices_are_stratified_and_disjoint(tmp_path):
    spec = write(tmp_path / "a.npz", **arrays())
    first, rest = create_source(spec, "train[:60%]"), create_source(spec, "train[60%:]")
    names = [[s.name(i) for i in range(len(s))] for s in (first, rest)]
    assert len(names[0]) == 12 and sorted(sum(names, [])) == sorted(f"train/{i}" for i in range(20))
    assert np.bincount(first.labels()).tolist() == [4, 4, 4]
    full = create_source(spec, "train")
    for source in (first, rest):
        for i in range(len(source)):
            number = int(source.name(i).removeprefix("train/"))
            np.testing.assert_array_equal(source[i]["image"], full[number]["image"])


def test_workers_read_the_file_again(tmp_path):
    source = create_source(write(tmp_path / "a.npz", **arrays()), "train[:60%]")
    data = pickle.dumps(source)
    assert len(data) < 2000
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy[3]["image"], source[3]["image"])
    assert copy.name(3) == source.name(3)


def test_modelnet10(tmp_path):
    voxels = np.zeros((4, 5, 5, 5), np.int32)
    voxels[:, 2] = 1
    made = {"X_train": voxels, "y_train": np.arange(4), "X_test": voxels, "y_test": np.arange(4)}
    np.savez(tmp_path / "a.npz", **made)
    source = create_source(f"modelnet10:{tmp_path / 'a.npz'}", "test")
    assert source.class_names[0] == "bathtub" and len(source.class_names) == 10
    np.testing.assert_array_equal(source[1]["image"], np.uint8(255 * voxels[1][..., None]))


def test_modelnet10_file(shared_data):
    path = shared_data / "modelnet10_voxels.npz"
    train, test = (create_source(f"modelnet10:{path}", split) for split in ("train", "test"))
    # The number of shapes of each class, as published with ModelNet10.
    published = [106, 515, 889, 200, 200, 465, 200, 680, 392, 344]
    assert np.bincount(train.labels()).tolist() == published
    assert len(test) == 908 and test[0]["image"].shape == (32, 32, 32, 1)
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(test[7]["image"][..., 0] > 0, file["X_test"][7] > 0)


def test_adrenal_file(shared_data):
    path = shared_data / "adrenal3d_64" / "adrenalmnist3d_64.npz"
    source = create_source(f"medmnist:{path}", "val")
    assert source.class_names == ("normal", "hyperplasia")
    assert np.bincount(source.labels()).tolist() == [76, 22]
    assert source[0]["image"].shape == (64, 64, 64, 1)


def broken(tmp_path, **changes) -> str:
    return write(tmp_path / "a.npz", **(arrays() | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(train_images=np.zeros((20, 6, 6, 6), np.float32)), "type float32, not uint8"),
        (dict(train_images=np.zeros((20, 6), np.uint8)), r"shape \[20, 6\]; write \[N, H, W\]"),
        (dict(train_images=np.zeros((3, 6, 6), np.uint8)), "has 3 rows, its labels 20"),
        (dict(train_labels=np.zeros(20)), "train_labels is a float64 array"),
        (dict(train_labels=np.full(20, -1)), "labels are whole numbers"),
        (dict(train_labels=np.full((20, 2), 3)), "labels are whole numbers"),
        (dict(train_labels=np.eye(20, dtype=int)), "labels of different shapes"),
        (dict(train_images=np.array([None], object)), "type object, not numbers"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        create_source(broken(tmp_path, **changes), "train")


def test_wrong_files_and_splits(tmp_path):
    with pytest.raises(ConfigError, match="medmnist:nowhere.npz: no such file"):
        open_dataset("medmnist:nowhere.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(ConfigError, match="can't be read"):
        open_dataset(f"medmnist:{tmp_path / 'text.npz'}")
    spec = write(tmp_path / "a.npz", **arrays())
    with pytest.raises(ConfigError, match="modelnet10:.*has no array y_train; it has train_images"):
        open_dataset(spec.replace("medmnist", "modelnet10"))
    with pytest.raises(ConfigError, match="split 'dev': .* has the splits train, val, test"):
        create_source(spec, "dev")


def test_a_damaged_file(tmp_path):
    """One bit of compressed values: found by the zip's checksum or the decompression."""
    path = tmp_path / "a.npz"
    spec = write(path, **arrays())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("train_images.npy")
    data = bytearray(path.read_bytes())
    data[member.header_offset + member.compress_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="can't be read"):
        create_source(spec, "train")
