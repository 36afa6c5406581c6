"""Actions on many images at once."""

import collections
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Text, type_coerce

from imgcls.studio.errors import Forbidden, Refused
from imgcls.studio.store import changes, datasets
from imgcls.studio.store.answers import Answer, changed
from imgcls.studio.store.changes import Action, Group
from imgcls.studio.store.classmap import ClassMap, read_classes
from imgcls.studio.store.connect import among, chunks
from imgcls.studio.store.consensus import majority
from imgcls.studio.store.derive import situations, votes_of
from imgcls.studio.store.filters import model_of
from imgcls.studio.store.schema import answer, image, prediction
from imgcls.studio.store.users import User

KEYS = ("tag", "untag", "flag", "split", "status", "accept", "reopen", "approve", "remove")
# What takes more than the role of a tagger.
_ROLES = {"approve": "reviewer", "reopen": "reviewer", "split": "reviewer", "remove": "owner"}
# Before and after, encoded; `None` is a reason to leave the image out.
Change = tuple[dict[str, Any], dict[str, Any]]


@dataclasses.dataclass
class _Work:
    """An action under way: the changes so far, and why images are left out."""

    connection: Connection
    user: User
    dataset_id: int
    single: bool
    classes: ClassMap
    groups: list[Group]
    why: collections.Counter[str]


def apply(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    ids: Sequence[int],
    action: dict[str, Any],
) -> dict[str, Any]:
    """Carries out an action on images.

    Args:
      connection: of the writer.
      user: who acts; tags are the user's own.
      dataset_id: images of others are left out.
      request_id: made by the client.
      ids: the images.
      action: any of `tag`, `untag` (class ids), `flag`, `split`, `status` ("review"),
        `accept` ({"min": score}: the model's suggestions become the user's tags), `approve`,
        `reopen`, `remove`.

    Returns:
      `{"seq", "changed", "skipped", "why": {reason: images}}`.

    Raises:
      Forbidden: the user's role is too low.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    _check(user, action)
    single = datasets.get(connection, dataset_id).kind == "single"
    work = _Work(
        *(connection, user, dataset_id, single, read_classes(connection, dataset_id)),
        groups=[],
        why=collections.Counter(),
    )
    rows = _read(work, ids)
    work.why["not in this data set"] += len(set(ids)) - len(rows)
    found = _changes(work, rows, action)
    groups: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for image_id, change in found.items():
        groups[change].append(image_id)
    work.groups = [Group(i, json.loads(b), json.loads(a)) for (b, a), i in groups.items()]
    done = len(found)
    skipped = {reason: n for reason, n in work.why.items() if n}
    what = f"{_describe(action, work.classes)}: {done:,} {'image' if done == 1 else 'images'}"
    kind = "accept" if "accept" in action else "bulk"
    entry = Action(request_id, user.id, dataset_id, kind, what, {"action": action})
    result = {"changed": done, "skipped": sum(skipped.values()), "why": skipped}
    return changes.record(connection, entry, groups=work.groups, result=result)


def _check(user: User, action: dict[str, Any]) -> None:
    if not action or set(action) - set(KEYS):
        raise Refused(f"action: {', '.join(map(str, action))}; write any of {', '.join(KEYS)}")
    for key, role in _ROLES.items():
        if key in action and not user.may(role):
            raise Forbidden(f"{key}: this needs the role {role}; {user.name} is a {user.role}")
    if action.get("status", "review") != "review":
        raise Refused("status: images are only sent to review; the others follow from the answers")
    if action.get("split", "train") not in datasets.SPLITS:
        raise Refused(f"split: {action['split']!r}; write one of {', '.join(datasets.SPLITS)}")
    if "approve" in action and "reopen" in action:
        raise Refused("action: approve and reopen exclude each other; write one of them")


def _read(work: _Work, ids: Sequence[int]) -> list[Any]:
    columns = ("id", "split", "in_review", "reviewed_by", "removed")
    found: list[Any] = []
    for part in chunks(sorted(set(ids))):
        query = sa.select(*(image.c[name] for name in columns)).where(
            image.c.dataset_id == work.dataset_id, image.c.removed.is_(False)
        )
        found += work.connection.execute(query.where(among(image.c.id, part))).all()
    return found


def _changes(work: _Work, rows: list[Any], action: dict[str, Any]) -> dict[int, tuple[str, str]]:
    """`{image: (before, after)}`, encoded, of the images that change."""
    answers = _answers(work, rows, action)
    ties = _undecided(work, rows, answers) if action.get("approve") else {}
    encoded: dict[Any, tuple[str, str]] = {}
    found: dict[int, tuple[str, str]] = {}
    for row in rows:
        new = answers.get(row.id)
        if new is not None and row.reviewed_by is not None and not action.get("reopen"):
            work.why["reviewed"] += 1
            continue
        if row.id in ties:
            work.why[ties[row.id]] += 1
            continue
        key = (new, row.split, row.in_review, row.reviewed_by)
        if key not in encoded:
            encoded[key] = _encode(work, row, new, action)
        if encoded[key][0] == "{}":
            work.why["unchanged"] += 1
        else:
            found[row.id] = encoded[key]
    return found


def _encode(work: _Work, row: Any, new: tuple[str, str] | None, action: dict) -> tuple[str, str]:
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if new is not None and new[0] != new[1]:
        before = {"user": work.user.id, "answer": json.loads(new[0])}
        after = {"user": work.user.id, "answer": json.loads(new[1])}
    wanted: dict[str, Any] = {}
    if "split" in action:
        wanted["split"] = action["split"]
    if action.get("remove"):
        wanted["removed"] = True
    if action.get("status") == "review" and row.reviewed_by is None:
        wanted["in_review"] = True
    if action.get("approve") and row.reviewed_by is None:
        wanted |= {"reviewed_by": work.user.id, "in_review": False}
    if action.get("reopen"):
        wanted |= {"reviewed_by": None, "in_review": False}
    for name, value in wanted.items():
        if row._mapping[name] != value:
            before[name], after[name] = row._mapping[name], value
    return str(changes.encode(before)), str(changes.encode(after))


def _answers(work: _Work, rows: list[Any], action: dict) -> dict[int, tuple[str, str]]:
    """`{image: (old, new)}`: the user's answers before and after, encoded."""
    item: dict[str, Any] = {}
    if "tag" in action:
        item["add"] = {str(class_id): {} for class_id in action["tag"]}
    if "untag" in action:
        item["remove"] = action["untag"]
    if "flag" in action:
        item["flag"] = action["flag"]
    accepted = _accepted(work, rows, action["accept"]) if "accept" in action else None
    if not item and accepted is None:
        return {}
    old = _own(work, [row.id for row in rows])
    known: dict[Any, tuple[str, str]] = {}
    found: dict[int, tuple[str, str]] = {}
    for row in rows:
        mine, add = old.get(row.id), None
        if accepted is not None:
            add = accepted.get(row.id)
            if not add or _decides(mine):
                work.why["tagged" if add else "no such suggestion"] += 1
                continue
        key = (mine, add)
        if key not in known:
            before: Answer = (
                None if mine is None else {"tags": json.loads(mine[0]), "flag": mine[1]}
            )
            one = item if add is None else {**item, "add": {str(c): {} for c in add}}
            after = changed(before, one, work.classes, work.single)
            known[key] = str(changes.encode(before)), str(changes.encode(after))
        found[row.id] = known[key]
    return found


def _decides(mine: tuple[str, str | None] | None) -> bool:
    return mine is not None and (mine[0] != "{}" or mine[1] is not None)


def _own(work: _Work, ids: list[int]) -> dict[int, tuple[str, str | None]]:
    """`{image: (tags as text, flag)}` of the user."""
    found: dict[int, tuple[str, str | None]] = {}
    query = sa.select(answer.c.image_id, type_coerce(answer.c.tags, Text), answer.c.flag)
    for part in chunks(ids):
        rows = query.where(answer.c.user_id == work.user.id, among(answer.c.image_id, part))
        for image_id, tags, flag in work.connection.execute(rows):
            found[image_id] = (tags, flag)
    return found


def _accepted(work: _Work, rows: list[Any], accept: dict[str, Any]) -> dict[int, tuple[int, ...]]:
    """`{image: classes}` that the model suggests with at least the score `min`."""
    model_id = model_of(work.connection, work.dataset_id)
    lowest = float(accept.get("min", 0))
    query = sa.select(prediction.c.image_id, prediction.c.class_id).where(
        prediction.c.model_id == (model_id or 0), prediction.c.score >= lowest
    )
    if work.single:
        query = query.where(prediction.c.rank == 0)
    found: dict[int, tuple[int, ...]] = {}
    for part in chunks([row.id for row in rows]):
        part_rows = query.where(among(prediction.c.image_id, part)).order_by(prediction.c.class_id)
        for image_id, class_id in work.connection.execute(part_rows):
            target = work.classes.resolve(class_id)
            if target is not None and target not in found.get(image_id, ()):
                found[image_id] = (*found.get(image_id, ()), target)
    return found


def _undecided(work: _Work, rows: list[Any], answers: dict[int, tuple[str, str]]) -> dict[int, str]:
    """`{image: reason}` of those that can't be approved: nobody tagged them, or a tie.

    The user's own answer, also the one that this action gives, decides.
    """
    kind = "single" if work.single else "multi"
    found: dict[int, str] = {}
    for situation, ids in situations(work.connection, [row.id for row in rows]).items():
        votes = votes_of(situation, work.classes)
        choices = [vote.classes for vote in votes if vote.decides]
        own = any(vote.user == work.user.id and vote.decides for vote in votes)
        reason = "untagged" if not choices else "taggers disagree"
        settled = own or majority(choices, kind) is not None
        for image_id in ids:
            after = json.loads(answers[image_id][1]) if image_id in answers else None
            decides = after and (after["flag"] == "none" or (after["tags"] and not after["flag"]))
            if not (decides or settled):
                found[image_id] = reason
    return found


def _describe(action: dict[str, Any], classes: ClassMap) -> str:
    def named(ids: Sequence[int]) -> str:
        return ", ".join(classes.rows[c].name for c in ids if c in classes.rows)

    said = {
        "tag": lambda value: f"tagged {named(value)}",
        "untag": lambda value: f"untagged {named(value)}",
        "flag": lambda value: f"flag {value}",
        "split": lambda value: f"moved to {value}",
        "status": lambda value: "sent to review",
        "accept": lambda value: f"accepted suggestions of at least {value.get('min', 0)}",
        "reopen": lambda value: "reopened",
        "approve": lambda value: "approved",
        "remove": lambda value: "removed",
    }
    return "; ".join(said[key](value) for key, value in action.items())
