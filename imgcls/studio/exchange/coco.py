"""COCO, as `imgcls/data/formats/coco.py` reads it: one file per split."""

import json
import pathlib

from imgcls.studio.exchange.collection import Collection
from imgcls.studio.exchange.manifest import IMAGES, details_of


def write(collection: Collection, paths: list[str], root: pathlib.Path) -> list[str]:
    """Writes `instances_SPLIT.json`, with attributes and texts at the image. Returns the paths."""
    names = collection.used_classes()
    # A category is its own supercategory: the reader takes another one for a group of classes.
    categories = [
        {"id": number, "name": name, "supercategory": name} for number, name in enumerate(names, 1)
    ]
    number_of = {c["name"]: c["id"] for c in categories}
    files: dict[str, dict] = {}
    pairs = zip(collection.examples, paths, strict=True)
    for number, (example, path) in enumerate(pairs, 1):
        split = example.split or "train"
        content = files.setdefault(
            split,
            {
                "info": {"description": collection.name},
                "images": [],
                "annotations": [],
                "categories": categories,
            },
        )
        image = {"id": number, "file_name": f"{IMAGES}/{path}"}
        image |= {"width": example.width, "height": example.height}
        content["images"].append(image | details_of(example, path))
        for tag in example.tags:
            count = sum(len(other["annotations"]) for other in files.values())
            annotation = {"id": count + 1, "image_id": number, "category_id": number_of[tag.name]}
            content["annotations"].append(annotation | {"iscrowd": 0})
    for split, content in files.items():
        text = json.dumps(content, ensure_ascii=False)
        (root / f"instances_{split}.json").write_text(text, encoding="utf-8")
    return [f"{IMAGES}/{path}" for path in paths]
