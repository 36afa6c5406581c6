"""Darwin JSON 2.0, as exported by V7: one file per image, or a list in one file.

Format: https://docs.v7labs.com/reference/darwin-json. The labels of an image are its `tag`
annotations; their attributes, text and properties are kept as metadata, as are the properties of
the image's item; one named `split` is its split. If an item has several slots, each is an image,
`PATH/ITEM/SLOT/FILE` as V7 downloads it, with its own tags; the item is a group.

A video is its file, or the folder of its frames, which is named as the file without extension. If
its tags are for parts of it, each part is an example.
"""

import collections
import os
from collections.abc import Iterable

from imgcls.core.errors import ConfigError
from imgcls.data.files import walk
from imgcls.data.formats.format import register_format
from imgcls.data.formats.json_file import load_json
from imgcls.data.table import problems as kinds
from imgcls.data.table.table import Segment, Table, split_of

EXPECTED = "Darwin JSON 2.0"
DETAILS = ("attributes", "text", "properties")
# Keys of every annotation; any other key is its kind, such as `polygon`.
COMMON = ("id", "name", "slot_names", "annotators", "reviewers", "ranges", *DETAILS)


@register_format("darwin", (".json",), reads_directory=True)
def read_darwin(path: str, table: Table) -> None:
    """Adds a Darwin file, or all Darwin files under a directory, to a table.

    Raises:
      ConfigError: `path` is not a Darwin file, or is one of version 1.
    """
    table.by_name = True
    if os.path.isfile(path):
        _add_file(load_json(path, EXPECTED), path, table)
        return
    for folder, names in walk(path):
        if "/." in os.path.join("/", os.path.relpath(folder, path), "").replace("/./", "/"):
            continue
        for name in sorted(n for n in names if n.endswith(".json") and not n.startswith(".")):
            file = os.path.join(folder, name)
            try:
                _add_file(load_json(file, EXPECTED), file, table)
            except ConfigError as e:
                table.problems.add(kinds.MALFORMED, str(e))
    if not table.items and not table.problems:
        raise ConfigError(f"{table.spec}: has no .json file; expected {EXPECTED}")


def _add_file(content, file: str, table: Table) -> None:
    for entry in content if isinstance(content, list) else [content]:
        item = entry.get("item") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and "image" in entry and item is None:
            raise ConfigError(f"{file}: is Darwin JSON 1.0; export the dataset as {EXPECTED}")
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise ConfigError(f"{file}: has no item.name; expected {EXPECTED}")
        if not isinstance(entry.get("annotations", []), list):
            raise ConfigError(f"{file}: its annotations are not a list; expected {EXPECTED}")
        # An image's folder starts at the root of the dataset: "/cats".
        folder = str(item.get("path") or "").strip("/")
        path = os.path.join(folder, item["name"].lstrip("/"))
        tags = [a for a in entry.get("annotations", []) if _is_tag(a, table)]
        slots = item.get("slots")
        known = _item_properties(entry)
        split = split_of(known.pop("split", ""))
        if not all(isinstance(tag.get("name"), str) for tag in tags):
            table.problems.add(kinds.MALFORMED, f"{path} has a tag without a name")
        elif isinstance(slots, list) and len(slots) > 1:
            _add_slots(path, slots, tags, table, split, known)
        else:
            slot = slots[0] if isinstance(slots, list) and slots else {}
            slot = slot if isinstance(slot, dict) else {}
            for segment, own in _by_segment(tags, slot, table):
                names = [tag["name"] for tag in own]
                table.add(path, names, split, metadata=known | _details(own), segment=segment)


def _item_properties(entry: dict) -> dict[str, str]:
    """The properties of an item, `{name: value}`, with the name `split` in any case."""
    entries = entry.get("properties")
    pairs = [
        (p.get("name"), p.get("value"))
        for p in (entries if isinstance(entries, list) else ())
        if isinstance(p, dict)
    ]
    texts = {k: v for k, v in pairs if isinstance(k, str) and isinstance(v, str)}
    return {"split" if key.lower() == "split" else key: value for key, value in texts.items()}


def _by_segment(
    tags: list[dict], slot: dict, table: Table
) -> Iterable[tuple[Segment | None, list[dict]]]:
    """The parts of a video and the tags of each; None is all of an image or video."""
    rate = slot.get("fps")
    if not table.videos or not isinstance(rate, int | float) or rate <= 0:
        return [(None, tags)]
    parts = collections.defaultdict(list)
    for tag in tags:
        for segment in _segments(tag.get("ranges"), rate, slot.get("frame_count")):
            parts[segment].append(tag)
    return parts.items() or [(None, [])]


def _segments(ranges, rate: float, count) -> list[Segment | None]:
    """Parts by ranges of frames, `[first, end before]`; None is all of a video of `count`."""
    pairs = [pair for pair in ranges if _is_range(pair)] if isinstance(ranges, list) else []
    return [
        None if pair in ([0, None], [0, count]) else Segment(*(n and n / rate for n in pair))
        for pair in pairs or [[0, None]]
    ]


def _is_range(pair) -> bool:
    if not isinstance(pair, list) or len(pair) != 2:
        return False
    return isinstance(pair[0], int) and (pair[1] is None or isinstance(pair[1], int))


def _add_slots(
    item: str,
    slots: list,
    tags: list[dict],
    table: Table,
    split: str | None,
    known: dict[str, str],
) -> None:
    """Adds the images of an item's slots; a tag without slots belongs to all of them."""
    for slot in slots:
        files = slot.get("source_files") if isinstance(slot, dict) else None
        names = [f.get("file_name") for f in files or () if isinstance(f, dict)]
        if not isinstance(files, list) or not names or not isinstance(names[0], str):
            table.problems.add(kinds.MALFORMED, f"{item} has a slot without a file name")
            continue
        kind, name = slot.get("type", "image"), str(slot.get("slot_name"))
        if kind != "image" and not (kind == "video" and table.videos):
            table.problems.passed_over[f"slot of type {kind}"] += 1
            continue
        own = [t for t in tags if not t.get("slot_names") or name in _texts(t["slot_names"])]
        path = os.path.join(item, name, names[0].lstrip("/"))
        metadata = {**known, **_details(own), "slot": name}
        names = [tag["name"] for tag in own]
        table.add(path, names, split, group=item, metadata=metadata)


def _texts(value) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else [str(value)]


def _details(tags: list[dict]) -> dict:
    """Other information of tags, by tag."""
    details = {key: {t["name"].strip(): t[key] for t in tags if t.get(key)} for key in DETAILS}
    return {key: by_name for key, by_name in details.items() if by_name}


def _is_tag(annotation, table: Table) -> bool:
    """Whether an annotation labels the image; others are counted by kind."""
    keys = annotation if isinstance(annotation, dict) else ()
    if "tag" in keys:
        return True
    frames = annotation.get("frames") if table.videos and "frames" in keys else None
    if isinstance(frames, dict) and any("tag" in frame for frame in frames.values()):
        return True
    kind = next((key for key in keys if key not in COMMON), "annotation of unknown kind")
    table.problems.passed_over[kind] += 1
    return False
