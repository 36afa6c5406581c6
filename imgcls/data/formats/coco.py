"""COCO: the labels of an image are the categories of its annotations.

Format: https://cocodataset.org/#format-data.
"""

import collections

from imgcls.core.errors import ConfigError
from imgcls.data.formats.format import register_format
from imgcls.data.formats.json_file import load_json
from imgcls.data.table import problems as kinds
from imgcls.data.table.names import normalize
from imgcls.data.table.table import Table

EXPECTED = "COCO: an object with the lists images, annotations and categories"
# Keys of an image that are not metadata.
_STANDARD_KEYS = ("id", "file_name", "width", "height")


@register_format("coco", (".json",), prefix="instances_")
def read_coco(path: str, table: Table) -> None:
    """Adds a COCO file to a table. Categories without examples are classes as well, except parents.

    Raises:
      ConfigError: the file is not in COCO format.
    """
    content = load_json(path, EXPECTED)
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ConfigError(f"{path}: has no list of objects {key!r}; expected {EXPECTED}")
    if not all(isinstance(c.get("name"), str) for c in content["categories"]):
        raise ConfigError(f"{path}: a category has no name; expected {EXPECTED}")
    table.by_name = True
    # Ids are compared as text, so that ids of invalid types do not raise.
    names = {str(c.get("id")): normalize(c["name"].strip()) for c in content["categories"]}
    table.classes |= set(names.values())
    parents = ((str(c.get("supercategory")).strip(), c) for c in content["categories"])
    table.parents |= {parent for parent, c in parents if parent != c["name"].strip()}
    labels = _read_labels(content, names, table)
    for image in content["images"]:
        number, file = str(image.get("id")), image.get("file_name")
        if not isinstance(file, str):
            table.problems.add(kinds.MALFORMED, f"image {number} has no file_name")
        elif number in labels:
            metadata = {key: image[key] for key in image if key not in _STANDARD_KEYS}
            table.add(file, labels[number], metadata=metadata)


def _read_labels(content: dict, names: dict[str, str], table: Table) -> dict[str, list[str]]:
    """Category names by image id, without the images that have an unknown category."""
    files = {str(i.get("id")): i.get("file_name") for i in content["images"]}
    labels: dict[str, list[str]] = {number: [] for number in files}
    for annotation in content["annotations"]:
        image, category = str(annotation.get("image_id")), str(annotation.get("category_id"))
        if image not in files:
            entry = f"annotation {annotation.get('id')} has the unknown image {image}"
            table.problems.add(kinds.MALFORMED, entry)
        elif category not in names:
            table.problems.add(kinds.UNKNOWN, f"category {category} of {files[image]}")
            labels.pop(image, None)
        elif image in labels:
            labels[image].append(names[category])
    counts = collections.Counter(str(i.get("id")) for i in content["images"])
    for number in (n for n, count in counts.items() if count > 1):
        table.problems.add(kinds.MALFORMED, f"{counts[number]} images have the id {number}")
        labels.pop(number, None)
    return labels
