"""Label Studio's JSON, as `imgcls/data/formats/label_studio.py` reads it."""

import json
import pathlib
import urllib.parse

from imgcls.data.decode.containers import VIDEO_EXTENSIONS
from imgcls.studio.exchange.collection import Collection
from imgcls.studio.exchange.manifest import IMAGES, details_of

# Name of the question, as in the labeling config below.
QUESTION = "tags"


def write(collection: Collection, paths: list[str], root: pathlib.Path) -> list[str]:
    """Writes `tasks.json`, and the labeling config for Label Studio. Returns the images' paths."""
    tasks = []
    for number, (example, path) in enumerate(zip(collection.examples, paths, strict=True), 1):
        key = "video" if path.lower().endswith(VIDEO_EXTENSIONS) else "image"
        place = urllib.parse.quote(f"{IMAGES}/{path}")
        data = {key: f"/data/local-files/?d={place}", "split": example.split or ""}
        choices = [tag.name for tag in example.tags]
        result = {"from_name": QUESTION, "to_name": key, "type": "choices"}
        results = [result | {"value": {"choices": choices}}] if choices else []
        annotation = {"id": number, "result": results, "was_cancelled": False}
        data |= details_of(example, path)
        tasks.append({"id": number, "data": data, "annotations": [annotation], "predictions": []})
    text = json.dumps(tasks, ensure_ascii=False, indent=1)
    (root / "tasks.json").write_text(text, encoding="utf-8")
    (root / "labeling_config.xml").write_text(_config(collection), encoding="utf-8")
    return [f"{IMAGES}/{path}" for path in paths]


def _config(collection: Collection) -> str:
    import xml.sax.saxutils

    choice = "multiple" if collection.multi_label else "single"
    quote = xml.sax.saxutils.quoteattr
    lines = [f"    <Choice value={quote(info.name)}/>" for info in collection.classes]
    start = [
        "<View>",
        '  <Image name="image" value="$image"/>',
        f'  <Choices name="{QUESTION}" toName="image" choice="{choice}">',
    ]
    return "\n".join([*start, *lines, "  </Choices>", "</View>"]) + "\n"
