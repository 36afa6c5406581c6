"""Writes a small dataset of real CIFAR-10 images in every label format."""

import csv
import json
import os
import pathlib
import zipfile

CLASSES = ("airplane", "cat", "truck")


def unpack_cifar10(shared: pathlib.Path, root: pathlib.Path, each: int = 16) -> list[str]:
    """Writes `ROOT/CLASS/NUMBER.jpg`, `each` images of three classes; returns the paths."""
    paths = []
    with zipfile.ZipFile(shared / "cifar10_jpg.zip") as archive:
        for label in CLASSES:
            for number in range(each):
                path = f"{label}/{number:04d}.jpg"
                (root / label).mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(archive.read(f"cifar10/train/{path}"))
                paths.append(path)
    return paths


def write_csv(file: pathlib.Path, header: list[str], rows: list[tuple]) -> str:
    """Writes a CSV like a spreadsheet: with a byte order mark and CRLF."""
    with open(file, "w", encoding="utf-8-sig", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        writer.writerows(rows)
    return str(file)


def write_darwin(folder: pathlib.Path, labels: dict[str, list[str]]) -> str:
    """Writes one file per image of `{path: labels}`, as exported by V7."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (path, names) in enumerate(labels.items()):
        directory, name = os.path.split(path)
        annotations = [
            {"id": f"{number}-{name}", "name": name, "slot_names": ["0"], "tag": {}}
            for name in names
        ]
        item = {
            "name": name,
            "path": f"/{directory}",
            "source_info": {"item_id": str(number), "dataset": {"name": "mine", "slug": "mine"}},
            "slots": [{"type": "image", "slot_name": "0", "source_files": [{"file_name": name}]}],
        }
        content = {"version": "2.0", "item": item, "annotations": annotations}
        (folder / f"{number}.json").write_text(json.dumps(content))
    return str(folder)


def write_label_studio(file: pathlib.Path, labels: dict[str, list[str]]) -> str:
    """Writes tasks with one annotation each, of images served from a local directory."""
    tasks = []
    for number, (path, names) in enumerate(labels.items()):
        result = {"type": "choices", "from_name": "kind", "to_name": "image"}
        annotation = {"result": [result | {"value": {"choices": names}}], "was_cancelled": False}
        data = {"image": f"/data/local-files/?d={path}"}
        tasks.append({"id": number, "data": data, "annotations": [annotation], "predictions": []})
    file.write_text(json.dumps(tasks))
    return str(file)


def write_coco(file: pathlib.Path, labels: dict[str, list[str]]) -> str:
    """Writes two boxes for each label, with ids that are not consecutive."""
    names = sorted({name for each in labels.values() for name in each}, reverse=True)
    ids = {name: 10 * i + 3 for i, name in enumerate(names)}
    images = [{"id": 1000 - i, "file_name": p, "width": 32} for i, p in enumerate(labels)]
    boxes = [
        {"id": 7 * i + j, "image_id": 1000 - i, "category_id": ids[name], "bbox": [0, 0, 9, 9]}
        for i, each in enumerate(labels.values())
        for j, name in enumerate([*each, *each])
    ]
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    content = {"images": images, "annotations": boxes[::-1], "categories": categories}
    file.write_text(json.dumps(content))
    return str(file)
