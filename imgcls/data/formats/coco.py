"""COCO: a picture's classes are the set of the categories of its annotations.

Format: https://cocodataset.org/#format-data.
"""

import collections

from imgcls.data import problems as kinds
from imgcls.data.formats.json_file import load_json
from imgcls.data.table import Item, Table
from imgcls.errors import ConfigError

EXPECTED = "COCO: an object with the lists images, annotations and categories"


def read_coco(path: str, table: Table, multi_label: bool | None, separator: str) -> None:
    """Adds a COCO file to a table. Categories without an example stay classes.

    Raises:
      ConfigError: not of that form.
    """
    content = load_json(path, EXPECTED)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ConfigError(f"{path}: has no list {key!r}; expected {EXPECTED}")
    table.by_name = True
    problems = table.problems
    names = {}
    for category in content["categories"]:
        if not isinstance(category, dict) or not isinstance(category.get("name"), str):
            raise ConfigError(f"{path}: a category has no name; expected {EXPECTED}")
        names[category.get("id")] = category["name"].strip()
    table.classes |= set(names.values())
    images = {i["id"]: i for i in content["images"] if isinstance(i, dict) and "id" in i}
    labels: dict = collections.defaultdict(dict)
    bad = set()
    for annotation in content["annotations"]:
        annotation = annotation if isinstance(annotation, dict) else {}
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if image not in images:
            said = f"annotation {annotation.get('id')} is of image {image}, which is not listed"
            problems.add(kinds.MALFORMED, said)
        elif category not in names:
            bad.add(image)
            said = f"category {category} of {images[image].get('file_name')}"
            problems.add(kinds.UNKNOWN, said)
        else:
            labels[image][names[category]] = None
    for image in content["images"]:
        number = image.get("id") if isinstance(image, dict) else None
        if number not in images or not isinstance(image.get("file_name"), str):
            problems.add(kinds.MALFORMED, f"image {number} has no id or file_name")
        elif number not in bad:
            keys = ("id", "file_name", "width", "height")
            metadata = {k: v for k, v in image.items() if k not in keys}
            table.items.append(Item(image["file_name"], tuple(labels[number]), metadata=metadata))
