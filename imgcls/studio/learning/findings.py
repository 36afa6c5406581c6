"""The audit of a version; what it finds is kept with the images, for filters and orders."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.home import Home
from imgcls.studio.learning import models, runs, versions
from imgcls.studio.learning.orders import LABEL_ERROR
from imgcls.studio.store import changes
from imgcls.studio.store.changes import Action
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import finding, image
from imgcls.studio.store.users import User

# Kinds of findings beside those of the quality of an image, which are named as in the audit.
DUPLICATE, NEAR_DUPLICATE, LEAK = "duplicate", "near_duplicate", "leak"
UNREADABLE = "unreadable"


def add(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    version_id: int,
    checkpoint: str | None,
) -> dict[str, Any]:
    """Adds a run of the audit: `{"seq", "id"}`.

    Args:
      connection: of the writer.
      user: who wants it.
      dataset_id: the data set.
      request_id: made by the client.
      version_id: the version that is audited.
      checkpoint: of the model whose features the labels are checked with; None: small features.
    """
    return runs.add(
        *(connection, user, dataset_id, request_id),
        kind="audit",
        version_id=version_id,
        arguments={"checkpoint": checkpoint},
        what="started an audit",
    )


def task(database: Database, home: Home, row: Any) -> dict[str, Any]:
    """What the process of an audit gets."""
    source = models.version_source(database, home, row)
    arguments = [f"--data={source['source']}", f"--multi_label={source['multi_label']}"]
    if row.arguments.get("checkpoint"):
        arguments.append(f"--checkpoint={row.arguments['checkpoint']}")
    return {"arguments": arguments}


def store(database: Database, home: Home, row: Any) -> None:
    """Replaces the findings of a data set by those of an audit."""
    content = json.loads((runs.folder_of(home, row) / "audit.json").read_text())
    with database.read() as connection:
        version = versions.get(connection, row.version_id)
    hashes = versions.paths_of(home, version)
    folder = f"{versions.folder_of(home, version)}/"
    found = read(content)
    database.write(
        _replace,
        row,
        [(hashes.get(name.removeprefix(folder)), kind, detail) for name, kind, detail in found],
    )


def read(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    """`(name of the image, kind, detail)` of all that an audit's JSON says of single images.

    Labels that are likely wrong come first, the most suspect ones before the others.
    """
    found = []
    for suspect in content["label_errors"]["suspects"]:
        given, better = suspect["given"], suspect["better"]
        detail = f"{given}: rather {better}"
        if content["multi_label"]:
            detail = f"{given}: {'missing' if suspect['missing'] else 'should not be there'}"
        found.append((suspect["name"], LABEL_ERROR, f"{detail} ({suspect['score']:.2g})"))
    groups = [(DUPLICATE, group["pictures"]) for group in content["duplicates"]["exact"]]
    groups += [(NEAR_DUPLICATE, pair["pictures"]) for pair in content["duplicates"]["near"]]
    for kind, places in groups:
        leaks = len({place["split"] for place in places}) > 1
        for place in places:
            others = [p for p in places if p is not place]
            detail = f"also {', '.join(_short(p['name']) for p in others)}"
            found.append((place["name"], kind, detail))
            if leaks:
                found.append((place["name"], LEAK, f"{detail} in {_splits(others)}"))
    for issue, places in content["quality"].items():
        found += [(place["name"], issue, f"{place['score']:.3g}") for place in places]
    found += [(entry["name"], UNREADABLE, entry["error"]) for entry in content["unreadable"]]
    return found


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _splits(places: list[dict[str, Any]]) -> str:
    return ", ".join(sorted({place["split"] for place in places}))


def _replace(connection: Connection, row: Any, found: list[tuple[str | None, str, str]]) -> None:
    here = image.c.dataset_id == row.dataset_id
    query = sa.select(image.c.sha256, image.c.id).where(here, image.c.removed.is_(False))
    ids = {sha256: image_id for sha256, image_id in connection.execute(query)}
    mine = sa.select(image.c.id).where(here)
    connection.execute(finding.delete().where(finding.c.image_id.in_(mine)))
    rows = [
        {"image_id": ids[sha256], "kind": kind, "detail": detail}
        for sha256, kind, detail in found
        if sha256 in ids
    ]
    if rows:
        connection.execute(finding.insert(), rows)
    action = Action(
        *(f"run-{row.id}-findings", row.started_by, row.dataset_id, "audit"),
        what=f"the audit found {len(rows)} things",
        undoable=False,
    )
    if changes.repeated(connection, action.request_id, action.user_id) is None:
        changes.record(connection, action)
