"""What all formats share: order, classes, splits, groups, several labels, and what is wrong."""

import collections
import json
import os
import pickle
import random
import stat
import threading
import zipfile

import numpy as np
import pytest

from imgcls.core.defaults import default_config
from imgcls.core.errors import ConfigError
from imgcls.data.create import open_split
from imgcls.data.sources.open import create_source, open_dataset
from imgcls.data.sources.splits import stratified_slice
from imgcls.data.table import problems as kinds
from imgcls.data.table.problems import Problems
from tests.data.own import write_csv


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest and its pictures: `manifest(rows, header) -> source`."""

    def make(rows: list[tuple], header=("path", "label"), there: bool = True) -> str:
        for row in rows if there else []:
            (tmp_path / row[0]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / row[0]).write_bytes(row[0].encode())
        return f"manifest:{write_csv(tmp_path / 'm.csv', list(header), rows)}"

    return make


def names(source) -> list[str]:
    return [os.path.basename(source.name(i)) for i in range(len(source))]


def skipped(spec: str, **options) -> Problems:
    """The problems of a source that leaves them out; the strict one names the same."""
    data = open_dataset(spec, on_error="skip", **options)
    found = data.open(data.splits[0]).problems
    with pytest.raises(ConfigError) as error:
        open_dataset(spec, **options)
    assert str(error.value).startswith(f"{spec}: ") and "\n" not in str(error.value)
    assert str(error.value).endswith("; mend the file or set config.data.on_error=skip")
    for kind, count in found.counts.items():
        assert f"{count} x {kind} ({', '.join(found.names[kind][:3])}" in str(error.value)
    return found


# ---- Order and reading.


def test_sorted_by_path(manifest, tmp_path):
    inside = str(tmp_path / "a" / "7.jpg")
    rows = [
        ("b/1.jpg", "x"),
        ("a/z.jpg", "y"),
        ("./a/10.jpg", "x"),
        (inside, "y"),
        ("c//d.jpg", "y"),
    ]
    spec = manifest([*rows, ("a\\2.jpg", "x")])
    (tmp_path / "a" / "2.jpg").write_bytes(b"a/2.jpg")
    data = open_dataset(spec)
    sources = [data.open(split) for split in data.splits]
    found = sorted(os.path.relpath(s.name(i), tmp_path) for s in sources for i in range(len(s)))
    assert found == ["a/10.jpg", "a/2.jpg", "a/7.jpg", "a/z.jpg", "b/1.jpg", "c/d.jpg"]
    for source in sources:
        paths = [source.name(i) for i in range(len(source))]
        assert paths == sorted(paths)


def test_pictures_outside_of_the_root(manifest, tmp_path):
    """Absolute paths and `..` are read where they lead."""
    (tmp_path / "root").mkdir()
    (tmp_path / "far").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "far" / name).write_bytes(b"far")
    rows = [("../far/1.jpg", "x", "train"), (str(tmp_path / "far/2.jpg"), "y", "train")]
    spec = manifest(rows, ("path", "label", "split"), there=False)
    source = create_source(spec, "train", data_dir=str(tmp_path / "root"))
    assert names(source) == ["1.jpg", "2.jpg"] and source[0] == {"image": b"far", "label": 0}


def test_paths_that_no_folder_can_have_are_missing(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"one")
    paths = ["1.jpg", "\ud800/1.jpg", "a\0b/1.jpg"]
    file = tmp_path / "m.jsonl"
    file.write_text("".join(json.dumps({"path": p, "label": "x"}) + "\n" for p in paths))
    assert len(skipped(f"manifest:{file}").names[kinds.MISSING]) == 2


def test_pictures_in_a_zip(manifest, tmp_path):
    with zipfile.ZipFile(tmp_path / "pics.zip", "w") as archive:
        archive.writestr("a/1.png", b"one")
        archive.writestr("a/2.png", b"two")
    rows = [("a/1.png", "x"), ("a/2.png", "y"), ("../pics.zip", "x"), ("/etc/hostname", "x")]
    spec = manifest(rows, there=False)
    options = dict(data_dir=str(tmp_path / "pics.zip"))
    found = skipped(spec, **options)
    # Nothing outside of a zip is in it.
    assert found.names == {kinds.MISSING: ["../pics.zip", "/etc/hostname"]}
    data = open_dataset(spec, on_error="skip", **options)
    sources = [data.open(split) for split in data.splits]
    images = {s.name(i): s[i]["image"] for s in sources for i in range(len(s))}
    root = tmp_path / "pics.zip"
    assert images == {f"{root}/a/1.png": b"one", f"{root}/a/2.png": b"two"}


def test_threads_and_pickling(manifest):
    rows = [(f"{i}.jpg", f"class {i % 3}") for i in range(60)]
    source = create_source(manifest(rows), "train")
    again = pickle.loads(pickle.dumps(source))
    found = [[] for _ in range(4)]

    def read(place: list) -> None:
        place.extend(again[i] for i in range(len(again)))

    threads = [threading.Thread(target=read, args=(place,)) for place in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [source[i] for i in range(len(source))]
    assert len(expected) == 48 and all(place == expected for place in found)
    assert names(again) == names(source)
    np.testing.assert_array_equal(again.labels(), source.labels())


# ---- Several labels.


def test_multi_hot(manifest):
    rows = [("a.jpg", "x|z", "train"), ("b.jpg", "", "train"), ("c.jpg", "y", "test")]
    source = create_source(manifest(rows, ("path", "label", "split")), "train")
    assert source.multi_label is True and source.class_names == ("x", "y", "z")
    assert source.labels().dtype == np.uint8
    np.testing.assert_array_equal(source.labels(), [[1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(source[0]["label"], [1, 0, 1])
    assert source[0]["label"].dtype == np.uint8


def test_a_folder_as_multi_label(tmp_path):
    for name in ("x/1.png", "y/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    data = open_dataset(f"folder:{tmp_path}", multi_label=True)
    labels = [data.open(split).labels() for split in data.splits]
    assert sorted(np.concatenate(labels).tolist()) == [[0, 1], [1, 0]]


def test_options_come_from_the_config(manifest):
    config = default_config()
    config.data.source = manifest([("a.jpg", "x+y"), ("b.jpg", "x"), ("c.jpg", "")])
    with pytest.raises(ConfigError, match="picture without a label"):
        open_split(config, "train")
    config.data.on_error = "skip"
    assert open_split(config, "train").class_names == ("x", "x+y")
    os.remove(os.path.join(os.path.dirname(config.data.source[9:]), "classes.txt"))
    config.data.separator, config.data.on_error = "+", "fail"
    assert open_split(config, "train").class_names == ("x", "y")
    config.data.multi_label = False
    with pytest.raises(ConfigError, match="a.jpg has the labels x, y"):
        open_split(config, "train")
    config.data.on_error = "skipp"
    with pytest.raises(ConfigError, match="data.on_error"):
        open_split(config, "train")


# ---- Splits and groups.


def test_divided_by_the_rarest_class(manifest):
    """80/10/10 of a class that only ever comes with a common one."""
    rows = [(f"{i:03d}.jpg", "common|rare" if i % 10 == 0 else "common") for i in range(200)]
    data = open_dataset(manifest(rows))
    counts = [data.open(split).labels().sum(axis=0).tolist() for split in data.splits]
    assert counts == [[160, 16], [20, 2], [20, 2]]


def test_groups_stay_whole(manifest):
    generator = random.Random(0)
    rows, header = [], ("path", "label", "group")
    for group in range(120):
        label = "ab"[group % 4 == 0]
        rows += [(f"{group}_{i}.jpg", label, f"p{group}") for i in range(generator.randint(1, 5))]
    rows += [(f"alone{i}.jpg", "a", "") for i in range(40)]
    data = open_dataset(manifest(rows, header))
    parts = {split: data.open(split) for split in data.splits}
    homes = collections.defaultdict(set)
    for split, source in parts.items():
        for i in range(len(source)):
            homes[source.group(i)].add(split)
    assert homes.pop(None) == {"train", "val", "test"}
    assert len(homes) == 120 and all(len(found) == 1 for found in homes.values())
    share = np.mean([label == "b" for _, label, _ in rows])
    for split, part in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        # Within one group of the share, and its classes within two.
        assert abs(len(parts[split]) - part * len(rows)) <= 5
        assert abs(np.sum(parts[split].labels()) - part * share * len(rows)) <= 10
    assert sum(map(len, parts.values())) == len(rows)
    first, rest = data.open("train[:50%]"), data.open("train[50%:]")
    assert sorted(names(first) + names(rest)) == sorted(names(parts["train"]))
    groups = [{s.group(i) for i in range(len(s))} - {None} for s in (first, rest)]
    assert not groups[0] & groups[1] and min(map(len, groups)) > 30


def test_slices_of_groups_by_hand():
    """Three groups of 2, 3 and 1 of one class: a group is where its first example falls."""
    labels, groups = np.zeros(6, int), np.array([4, 9, 9, 4, 1, 9])
    cuts = {}
    for stop in range(7):
        chosen = stratified_slice(labels, "", str(stop), 0, groups)
        assert set(groups[chosen]) & set(np.delete(groups, chosen)) == set()
        rest = stratified_slice(labels, str(stop), "", 0, groups)
        assert sorted([*chosen, *rest]) == list(range(6))
        cuts[stop] = len(chosen)
    order = [cuts[stop] for stop in range(7)]
    assert order == sorted(order) and order[0] == 0 and order[6] == 6
    sizes = np.diff(sorted(set(order)))
    assert sorted(sizes) == [1, 2, 3] and order[1] == sizes[0]


def test_a_group_counts_for_its_most_frequent_class():
    """Ten groups of 'two of 1 and one of 0' are a class of their own beside 30 zeros."""
    labels = np.array([1, 0, 1] * 10 + [0] * 30)
    groups = np.concatenate([np.repeat(np.arange(10), 3), np.arange(10, 40)])
    for seed in range(30):
        chosen = stratified_slice(labels, "", "50%", seed, groups)
        assert abs(len(set(groups[chosen]) & set(range(10))) - 5) <= 1


def test_divided_as_the_labels_are(manifest):
    rows = [(f"{i:03d}.jpg", "cbad"[i * i % 7 % 4]) for i in range(90)]
    labels = np.array(["abcd".index(label) for _, label in rows])
    for split, bounds in (("train", ("", "80%")), ("val", ("80%", "90%")), ("test", ("90%", ""))):
        chosen = stratified_slice(labels, *bounds, 4)
        source = create_source(manifest(rows), split, seed=4)
        assert names(source) == [rows[i][0] for i in chosen]
        np.testing.assert_array_equal(source.labels(), labels[chosen])


def test_order_of_the_classes_does_not_change_the_split(manifest, tmp_path):
    rows = [(f"{i}.jpg", "abc"[i % 3]) for i in range(90)]
    before = names(create_source(manifest(rows), "val"))
    (tmp_path / "classes.txt").write_text("unused\nc\nb\na\n")
    after = create_source(manifest(rows), "val")
    assert names(after) == before and after.class_names == ("unused", "c", "b", "a")


def test_split_folders_divide_whatever_names_them(manifest):
    """Without a column for it, pictures under `train/` and `valid/` are divided so."""
    rows = [("d/train/1.jpg", "x"), ("d/valid/2.jpg", "x"), ("d/train/sub/3.jpg", "x")]
    data = open_dataset(manifest(rows))
    assert data.splits == ("train", "val")
    assert names(data.open("train")) == ["1.jpg", "3.jpg"]
    # All in one folder, as downloads have it, is no division.
    assert open_dataset(manifest(rows[::2])).splits == ("train", "val", "test")
    assert open_dataset(manifest([*rows, ("d/zoo/4.jpg", "x")])).splits == (
        "train",
        "val",
        "test",
    )


# ---- Classes.


def test_classes_file(manifest, tmp_path):
    rows = [(f"{i}.jpg", "bé" if i % 2 else "a") for i in range(20)]
    spec = manifest(rows)
    assert create_source(spec, "train").class_names == ("a", "bé")
    place = tmp_path / "classes.txt"
    assert place.read_bytes() == "a\nbé\n".encode()
    found = skipped(manifest([*rows, ("c.jpg", "Aa")]))
    assert found.names == {kinds.UNKNOWN: ["'Aa' of c.jpg"]}
    with pytest.raises(ConfigError, match=f"add it at the end of {place}, or remove that file"):
        create_source(spec, "train")
    place.write_text("bé\r\na \n\nAa\n", encoding="utf-8-sig")
    source = create_source(spec, "train")
    assert source.class_names == ("bé", "a", "Aa")
    for i in range(len(source)):
        expected = "Aa" if names(source)[i] == "c.jpg" else rows[int(names(source)[i][:-4])][1]
        assert source.class_names[source[i]["label"]] == expected
    place.write_text("a\nbé\nAa\na\n")
    with pytest.raises(ConfigError, match=f"{place}: names the class 'a' twice"):
        create_source(spec, "train")
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["classes.txt", "m.csv", "c.jpg"] + [r[0] for r in rows]
    )


def test_classes_file_of_folders(tmp_path):
    for name in ("x/1.png", "y/2.png"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True)
        (tmp_path / "tree" / name).write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "my.tree.zip", "w") as archive:
        for name in ("x/1.png", "y/2.png"):
            archive.writestr(name, b"")
    places = {"tree": "tree/classes.txt", "my.tree.zip": "my.tree.classes.txt"}
    for root, place in places.items():
        open_dataset(f"folder:{tmp_path / root}")
        assert (tmp_path / place).read_text() == "x\ny\n"
        (tmp_path / place).write_text("z\ny\nx\n")
        assert open_dataset(f"folder:{tmp_path / root}").open("train").class_names == (
            "z",
            "y",
            "x",
        )
        (tmp_path / place).write_text("x\n")
        assert skipped(f"folder:{tmp_path / root}").names == {kinds.UNKNOWN: ["'y' of y/2.png"]}


def test_classes_file_is_not_forced(manifest, tmp_path):
    """Nothing is written into a folder that is read-only, nor for data that are refused."""
    with pytest.raises(ConfigError):
        open_dataset(manifest([("a.jpg", "x"), ("b.jpg", "")]))
    assert not (tmp_path / "classes.txt").exists()
    spec = manifest([("a.jpg", "x"), ("b.jpg", "y")])
    mode = stat.S_IMODE(os.stat(tmp_path).st_mode)
    os.chmod(tmp_path, 0o555)
    try:
        assert open_dataset(spec).open("train").class_names == ("x", "y")
        assert sorted(os.listdir(tmp_path)) == ["a.jpg", "b.jpg", "m.csv"]
    finally:
        os.chmod(tmp_path, mode)


# ---- Problems.


def test_every_problem_is_named(manifest, tmp_path):
    header = ("path", "label", "split", "group")
    rows = [(f"good{i}.jpg", "x", "train", "g") for i in range(3)]
    rows += [("good3.jpg", "x", "test", "h"), ("cut.jpg", "x", "test", "g")]
    rows += [
        ("none.jpg", "", "train", ""),
        ("both.jpg", "x", "train", ""),
        ("both.jpg", "x", "train", ""),
    ]
    rows += [("odd.jpg", "x", "train", ""), ("./odd.jpg", "y", "train", "")]
    spec = manifest(rows, header)
    gone = [(f"no{i}.jpg", "x", "train", "") for i in range(5)]
    spec = manifest([*rows, *gone], header, there=False)
    found = skipped(spec)
    assert found.names == {
        kinds.MISSING: [f"no{i}.jpg" for i in range(5)],
        kinds.DUPLICATE: ["both.jpg"],
        kinds.CONFLICT: ["odd.jpg"],
        kinds.UNLABELLED: ["none.jpg"],
        kinds.TWO_SPLITS: ["g: test and train"],
    }
    assert found.counts[kinds.MISSING] == 5 and len(found.lines()) == 5
    assert f"5 x {kinds.MISSING} (no0.jpg, no1.jpg, no2.jpg, ...)" in str(found)
    data = open_dataset(spec, on_error="skip")
    assert names(data.open("train")) == ["both.jpg", "good0.jpg", "good1.jpg", "good2.jpg"]
    assert names(data.open("test")) == ["good3.jpg"]


def test_problems_of_all_splits_count(manifest):
    """Training on one split is no reason to overlook another."""
    rows = [("a.jpg", "x", "train"), ("b.jpg", "", "test")]
    with pytest.raises(ConfigError, match="b.jpg"):
        create_source(manifest(rows, ("path", "label", "split")), "train")


def test_nothing_left(manifest):
    spec = manifest([("a.jpg", "x")], there=False)
    with pytest.raises(ConfigError, match="split 'train': holds no examples"):
        create_source(spec, "train", on_error="skip")


def test_many_problems_are_counted_and_the_first_named():
    found = Problems()
    for i in range(250):
        found.add(kinds.MISSING, f"{i}.jpg")
    assert found.counts == {kinds.MISSING: 250} and found
    assert found.names[kinds.MISSING] == [f"{i}.jpg" for i in range(100)]
    assert not Problems()


# ---- Zips that are up to no good.


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../1.png", "points outside"),
        ("/x/1.png", "points outside"),
        ("x/../../1.png", "points outside"),
        ("C:/x/1.png", "points outside"),
        ("c:x.png", "points outside"),
        ("..\\x\\1.png", "points outside"),
        ("\\x\\1.png", "points outside"),
        ("x\\1.png", "written with a backslash"),
    ],
)
def test_refused_zip_members(tmp_path, member, message):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("x/0.png", b"")
        archive.writestr(zipfile.ZipInfo(member), b"")
    with pytest.raises(ConfigError, match=f"refused, its member .* {message}"):
        open_dataset(f"folder:{tmp_path / 'bad.zip'}")


@pytest.mark.parametrize(
    ("target", "leaves"),
    [("/etc/passwd", True), ("../../x", True), ("..\\..\\x", True), ("../y/1.png", False)],
)
def test_links_in_a_zip(tmp_path, target, leaves):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("x/0.png", b"")
        archive.writestr("y/1.png", b"")
        link = zipfile.ZipInfo("x/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
    if leaves:
        with pytest.raises(ConfigError, match="refused, its member 'x/link.png' points outside"):
            open_dataset(f"folder:{tmp_path / 'bad.zip'}")
    else:
        open_dataset(f"folder:{tmp_path / 'bad.zip'}")
