"""Label Studio's JSON and JSON-MIN exports; the majority of the annotators decides.

Format: https://labelstud.io/guide/export. The labels of an image are the choices of its
annotations. If the data of each task have a split, `"split": "train"`, it is the image's.
"""

import collections
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlparse

from imgcls.core.errors import ConfigError, did_you_mean
from imgcls.data.decode.containers import VIDEO_EXTENSIONS
from imgcls.data.decode.formats import extensions
from imgcls.data.formats.format import register_format
from imgcls.data.formats.json_file import load_json
from imgcls.data.table import problems as kinds
from imgcls.data.table.names import normalize
from imgcls.data.table.table import Table, split_of

EXPECTED = "a list of tasks, as exported by Label Studio in JSON or JSON-MIN"
# Keys of a JSON-MIN row that are neither data nor answers, and usual keys of answers.
_ROW_KEYS = (
    "id",
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "comments",
)
_ANSWER_KEYS = ("choice", "choices", "label", "labels", "class", "category", "tag", "tags")
_EXTENSIONS = (*extensions(), *VIDEO_EXTENSIONS)


class Task(NamedTuple):
    """The data of an image, and the choices of each annotator by question."""

    number: object
    data: dict
    votes: list[dict[str, tuple[str, ...]]]


@register_format("labelstudio", (".json",))
def read_label_studio(path: str, table: Table) -> None:
    """Adds an export to a table.

    A single label is the one with the most votes, and a tie is a problem. Multiple labels are those
    chosen by more than half of the annotators.

    Raises:
      ConfigError: the file is not an export, has several questions without `question` or
        `multi_label=True`, or lacks the question.
    """
    content = load_json(path, EXPECTED)
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise ConfigError(f"{path}: is not a list of objects; expected {EXPECTED}")
    table.by_name = True
    full = any(isinstance(task.get("data"), dict) for task in content)
    tasks = list(_read_full(content, table) if full else _read_min(content, path, table))
    questions = sorted({question for task in tasks for vote in task.votes for question in vote})
    if table.question is not None:
        _keep_question(tasks, table.question, questions, path)
    elif len(questions) > 1 and not table.multi_label:
        raise ConfigError(
            f"{path}: has choices for {len(questions)} questions ({', '.join(questions)}); name "
            "one with config.data.question, or join them with config.data.multi_label=True"
        )
    # The labels chosen by each annotator, for each task.
    votes = [[frozenset().union(*vote.values()) for vote in task.votes] for task in tasks]
    table.listed |= any(len(vote) > 1 for task_votes in votes for vote in task_votes)
    splits = [split_of(str(task.data.get("split", ""))) for task in tasks]
    have_splits = all(splits)
    for task, task_votes, split in zip(tasks, votes, splits, strict=True):
        key = _image_key(task.data)
        if key is None:
            table.problems.add(kinds.MALFORMED, f"task {task.number} has no image")
            continue
        image = task.data[key]
        vote_count = _majority if table.listed or table.multi_label else _plurality
        labels = vote_count(task_votes)
        if labels is None:
            table.problems.add(kinds.TIE, image)
        elif not task_votes:
            table.problems.add(kinds.UNLABELED, image)
        else:
            used = (key, "split") if have_splits else (key,)
            metadata = {k: v for k, v in task.data.items() if k not in used}
            table.add(_to_path(image), labels, split if have_splits else None, metadata=metadata)


def _keep_question(tasks: list[Task], question: str, questions: list[str], path: str) -> None:
    """Drops the votes for other questions."""
    if question not in questions:
        raise ConfigError(
            f"{path}: config.data.question={question!r}: has no such choices"
            f"{did_you_mean(question, questions)}; it has {', '.join(questions) or 'none'}"
        )
    for task in tasks:
        task.votes[:] = [{question: vote.get(question, ())} for vote in task.votes]


def _read_full(content: list[dict], table: Table) -> Iterator[Task]:
    for number, task in enumerate(content):
        votes = []
        for annotation in _dicts(task.get("annotations") or task.get("completions")):
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                table.problems.passed_over["cancelled annotation"] += 1
                continue
            vote: dict[str, tuple[str, ...]] = {}
            for result in _dicts(annotation.get("result")):
                if result.get("type") != "choices":
                    table.problems.passed_over[str(result.get("type"))] += 1
                    continue
                question = str(result.get("from_name"))
                vote[question] = vote.get(question, ()) + _choices(result.get("value"))
            votes.append(vote)
        data = task.get("data")
        yield Task(task.get("id", number), data if isinstance(data, dict) else {}, votes)


def _read_min(content: list[dict], path: str, table: Table) -> Iterator[Task]:
    """JSON-MIN: one row per annotation, with the answers beside the data."""
    image_key = next(filter(None, map(_image_key, content)), None)
    other_keys = (*_ROW_KEYS, image_key)
    keys = dict.fromkeys(key for row in content for key in row if key not in other_keys)
    lists = [k for k in keys if any(isinstance(row.get(k), dict) for row in content)]
    answers = [k for k in keys if k in lists or k in _ANSWER_KEYS] or list(keys)
    if table.question is not None and table.question in keys:
        answers = [table.question]
    elif len(answers) != 1 and not set(answers) <= {*lists, *_ANSWER_KEYS}:
        raise ConfigError(
            f"{path}: can't tell which of {', '.join(keys) or 'no keys'} is the label; name it "
            "with config.data.question"
        )
    tasks: dict[str, Task] = {}
    for number, row in enumerate(content):
        data = {k: v for k, v in row.items() if k not in (*_ROW_KEYS, *answers)}
        task = tasks.setdefault(str(row.get("id", f"row {number}")), Task(row.get("id"), data, []))
        task.votes.append({k: _choices_of_row(row[k], table) for k in answers if k in row})
    yield from tasks.values()


def _dicts(value) -> list[dict]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _choices(value) -> tuple[str, ...]:
    """The choices in `{"choices": ["cat"]}`, `["cat"]` or `"cat"`."""
    value = value.get("choices") if isinstance(value, dict) else value
    if not isinstance(value, list):
        value = [] if value is None else [value]
    return tuple(normalize(str(name).strip()) for name in value)


def _choices_of_row(value, table: Table) -> tuple[str, ...]:
    """The choices in a JSON-MIN row. Regions, which are lists of objects, are counted by type."""
    regions = _dicts(value)
    if not regions:
        return _choices(value)
    for region in regions:
        kind = next((key for key in region if key.endswith("labels")), "region")
        table.problems.passed_over[kind] += 1
    return ()


def _plurality(votes: list[frozenset[str]]) -> tuple[str, ...] | None:
    """The label with the most votes; None for a tie."""
    ranked = collections.Counter(name for vote in votes for name in vote).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return None
    return tuple(name for name, _ in ranked[:1])


def _majority(votes: list[frozenset[str]]) -> tuple[str, ...]:
    """The labels in more than half of the votes."""
    counts = collections.Counter(name for vote in votes for name in vote)
    return tuple(sorted(name for name, count in counts.items() if 2 * count > len(votes)))


def _image_key(data: dict) -> str | None:
    """The key of the path: `image`, `video`, or the first value with the extension of one."""
    for key in ("image", "video"):
        if isinstance(data.get(key), str):
            return key
    texts = ((key, value) for key, value in data.items() if isinstance(value, str))
    return next(
        (key for key, value in texts if _to_path(value).lower().endswith(_EXTENSIONS)), None
    )


def _to_path(reference: str) -> str:
    """Relative path of a URL, an upload (`/data/upload/...`) or a local file (`?d=`)."""
    if "://" not in reference and not reference.startswith("/data/"):
        return reference
    try:
        url = urlparse(reference)
    except ValueError:  # unbalanced brackets in the host
        return reference
    local = parse_qs(url.query).get("d") if url.path.startswith("/data/local-files") else None
    return local[0].strip("/") if local else f"{url.netloc}{unquote(url.path)}".strip("/")
