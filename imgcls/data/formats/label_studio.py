"""Label Studio's JSON and JSON-MIN exports; of several annotators the majority decides.

Format: https://labelstud.io/guide/export. A picture's classes are the choices of its annotations.
"""

import collections
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlparse

from imgcls.core.errors import ConfigError
from imgcls.data.files import EXTENSIONS
from imgcls.data.formats.format import register_format
from imgcls.data.formats.json_file import load_json
from imgcls.data.table import problems as kinds
from imgcls.data.table.table import Table

EXPECTED = "a list of tasks, as Label Studio exports it in JSON or JSON-MIN"
# Of JSON-MIN, which lays the data, the answers and these side by side.
ABOUT = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "comments")
ANSWERS = ("choice", "choices", "label", "labels", "class", "category", "tag", "tags")


class Task(NamedTuple):
    """A picture, and for each annotator the choices by question."""

    number: object
    data: dict
    votes: list[dict[str, tuple[str, ...]]]


@register_format("labelstudio", (".json",))
def read_label_studio(path: str, table: Table) -> None:
    """Adds an export to a table.

    A single label is the one with most votes, and a tie is a problem; of many labels those stay
    that more than half of the annotators chose.

    Raises:
      ConfigError: no export, or several questions without `multi_label=True`.
    """
    content = load_json(path, EXPECTED)
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise ConfigError(f"{path}: is no list of objects; expected {EXPECTED}")
    table.by_name = True
    full = any(isinstance(task.get("data"), dict) for task in content)
    tasks = list(_read_full(content, table) if full else _read_min(content, path))
    questions = sorted({question for task in tasks for vote in task.votes for question in vote})
    if len(questions) > 1 and not table.multi_label:
        raise ConfigError(
            f"{path}: has choices for {len(questions)} questions ({', '.join(questions)}); leave "
            "one, or join them with config.data.multi_label=True"
        )
    votes = [[frozenset().union(*vote.values()) for vote in task.votes] for task in tasks]
    table.listed |= any(len(vote) > 1 for given in votes for vote in given)
    for task, given in zip(tasks, votes, strict=True):
        key = _picture_key(task.data)
        if key is None:
            table.problems.add(kinds.MALFORMED, f"task {task.number} names no picture")
            continue
        picture = task.data[key]
        labels = _majority(given) if table.listed or table.multi_label else _most(given)
        if labels is None:
            table.problems.add(kinds.TIE, picture)
        elif not given:
            table.problems.add(kinds.UNLABELLED, picture)
        else:
            metadata = {k: v for k, v in task.data.items() if k != key}
            table.add(_path(picture), labels, metadata=metadata)


def _read_full(content: list[dict], table: Table) -> Iterator[Task]:
    for number, task in enumerate(content):
        votes = []
        for annotation in _objects(task.get("annotations") or task.get("completions")):
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                table.problems.passed_over["cancelled annotation"] += 1
                continue
            vote: dict[str, tuple[str, ...]] = {}
            for result in _objects(annotation.get("result")):
                if result.get("type") != "choices":
                    table.problems.passed_over[str(result.get("type"))] += 1
                    continue
                question = str(result.get("from_name"))
                vote[question] = vote.get(question, ()) + _names(result.get("value"))
            votes.append(vote)
        data = task.get("data")
        yield Task(task.get("id", number), data if isinstance(data, dict) else {}, votes)


def _read_min(content: list[dict], path: str) -> Iterator[Task]:
    """JSON-MIN: a row for each annotation, with the answer beside the data."""
    picture = next(filter(None, map(_picture_key, content)), None)
    keys = dict.fromkeys(key for row in content for key in row if key not in (*ABOUT, picture))
    lists = [k for k in keys if any(isinstance(row.get(k), dict) for row in content)]
    answers = [k for k in keys if k in lists or k in ANSWERS] or list(keys)
    if len(answers) != 1 and not set(answers) <= {*lists, *ANSWERS}:
        raise ConfigError(
            f"{path}: can't tell which of {', '.join(keys) or 'no keys'} is the label; call it "
            "'label', or export as JSON"
        )
    tasks: dict[str, Task] = {}
    for number, row in enumerate(content):
        data = {k: v for k, v in row.items() if k not in (*ABOUT, *answers)}
        task = tasks.setdefault(str(row.get("id", f"row {number}")), Task(row.get("id"), data, []))
        task.votes.append({k: _names(row[k]) for k in answers if k in row})
    yield from tasks.values()


def _objects(value) -> list[dict]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _names(value) -> tuple[str, ...]:
    """The choices in `{"choices": ["cat"]}`, `["cat"]` or `"cat"`."""
    value = value.get("choices") if isinstance(value, dict) else value
    if not isinstance(value, list):
        value = [] if value is None else [value]
    return tuple(str(name).strip() for name in value)


def _most(votes: list[frozenset[str]]) -> tuple[str, ...] | None:
    """The label with most votes; None for a tie."""
    ranked = collections.Counter(name for vote in votes for name in vote).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return None
    return tuple(name for name, _ in ranked[:1])


def _majority(votes: list[frozenset[str]]) -> tuple[str, ...]:
    """The labels that more than half of the votes hold."""
    counts = collections.Counter(name for vote in votes for name in vote)
    return tuple(sorted(name for name, count in counts.items() if 2 * count > len(votes)))


def _picture_key(data: dict) -> str | None:
    """The key of the value that names a picture: `image`, or the first that looks like one."""
    if isinstance(data.get("image"), str):
        return "image"
    texts = ((key, value) for key, value in data.items() if isinstance(value, str))
    return next((key for key, value in texts if _path(value).lower().endswith(EXTENSIONS)), None)


def _path(reference: str) -> str:
    """A path from the root: of a URL, an upload (`/data/upload/...`) or a local file (`?d=`)."""
    if "://" not in reference and not reference.startswith("/data/"):
        return reference
    try:
        url = urlparse(reference)
    except ValueError:  # of a host in broken brackets
        return reference
    inside = parse_qs(url.query).get("d") if url.path.startswith("/data/local-files") else None
    return inside[0].strip("/") if inside else f"{url.netloc}{unquote(url.path)}".strip("/")
