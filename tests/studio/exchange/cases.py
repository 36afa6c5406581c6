"""A collection of real images with awkward names, attributes and texts."""

import dataclasses
import hashlib
import pathlib

from imgcls.studio.exchange.collection import (
    Attribute,
    ClassInfo,
    Collection,
    Example,
    Tag,
    ordered,
)
from tests.data.own import CLASSES, unpack_cifar10

# As uploaded; `a:b?.jpg` and `..` are no names of files everywhere, `Cat.jpg` repeats `cat.jpg`.
NAMES = [
    "1.jpg",
    "ünïcode 2.jpg",
    "a:b?.jpg",
    "cat.jpg",
    "Cat.jpg",
    "100%.jpg",
    "x|y.jpg",
    "#8.jpg",
]
FOLDERS = ["", "north", "north/deep, er", "../up"]
ATTRIBUTES = (
    Attribute("attributes", "choices", ("occluded", "blurred")),
    Attribute("view", "choice", ("front", "side")),
    Attribute("parts", "choices", ("head", "tail")),
    Attribute("young", "yes_no"),
    Attribute("weight", "number"),
    Attribute("note", "text"),
)
VALUES = {
    "attributes": ["occluded", "blurred"],
    "view": "side",
    "parts": ["head", "tail"],
    "young": False,
    "weight": 3.5,
    "note": 'says "hi", twice\nover',
}


def collect(
    shared: pathlib.Path, folder: pathlib.Path, multi_label: bool = False, plain: bool = False
) -> Collection:
    """Eight images of each of three classes of CIFAR-10; `plain`: without attributes."""
    paths = unpack_cifar10(shared, folder, each=8)
    classes = [
        ClassInfo("truck", "#112233", "t", "a lorry"),
        ClassInfo("airplane", "#445566", None, ""),
        ClassInfo("cat", "#778899", "c", "a pet", () if plain else ATTRIBUTES),
        ClassInfo("unused", "#000000"),
    ]
    examples = []
    for number, path in enumerate(paths):
        file = folder / path
        tags = [Tag(CLASSES[number // 8])]
        if tags[0].name == "cat" and not plain:
            tags = [Tag("cat", VALUES if number % 2 else {"young": True}, "a cät, sleeping")]
        if multi_label and number % 3 == 0:
            tags.append(Tag("truck" if tags[0].name != "truck" else "airplane"))
        if multi_label and number == 1:
            tags = []
        examples.append(
            Example(
                name=NAMES[number % 8] if not plain else f"{number}.jpg",
                folder=FOLDERS[number % 4] if not plain else "",
                tags=tuple(tags),
                split=("train", "train", "train", "val", "test")[number % 5],
                sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                file=str(file),
                width=32,
                height=32,
                comment="dark" if number == 4 and not plain else "",
            )
        )
    return Collection("pets", multi_label, tuple(classes), ordered(examples))


def comparable(examples) -> dict[str, tuple]:
    """What must not be lost, by the hash of the image."""
    rows = {}
    for example in examples:
        sha256 = (
            example.sha256 or hashlib.sha256(pathlib.Path(example.file).read_bytes()).hexdigest()
        )
        tags = sorted((dataclasses.astuple(tag) for tag in example.tags), key=lambda t: t[0])
        rows[sha256] = (example.folder, example.name, example.split, example.comment, tags)
    return rows
