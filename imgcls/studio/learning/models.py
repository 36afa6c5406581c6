"""The model of a data set: its suggestions, until a person confirms them, and its features."""

import pathlib
import time
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict, Forbidden, NotFound
from imgcls.studio.home import Home
from imgcls.studio.learning import runs, versions
from imgcls.studio.learning.tasks import PREDICTIONS
from imgcls.studio.store import changes
from imgcls.studio.store.changes import Action
from imgcls.studio.store.classmap import read_classes
from imgcls.studio.store.connect import Database, among, chunks
from imgcls.studio.store.schema import dataset, image, model, prediction, run, version
from imgcls.studio.store.users import User

# Suggested classes of an image, at most, and the lowest score of those after the first.
TOP = 5
MIN_SCORE = 0.01
# Images whose suggestions are written at once, so that people who tag do not wait.
_PART = 1000


def checkpoint_of(
    connection: Connection, home: Home, user: User, wanted: int | str, allow_configs: bool
) -> tuple[str, int | None]:
    """The checkpoint that a request names, and its run if it is one of the studio.

    Args:
      connection: that reads.
      home: of the runs.
      user: who asks.
      wanted: the number of a run, or the path of a checkpoint on the server.
      allow_configs: whether the owner may name any path: a checkpoint may import Python files.

    Raises:
      NotFound, Conflict: there is no such run, or it has no checkpoint yet.
      Forbidden: a path that this user may not name.
    """
    if isinstance(wanted, int):
        row = runs.get(connection, wanted)
        folder = runs.folder_of(home, row)
        if row.kind != "train" or not (folder / "checkpoints").is_dir():
            raise Conflict(f"run {wanted} has no model yet; wait for its first checkpoint")
        return str(folder), wanted
    if not (allow_configs and user.may("owner")):
        raise Forbidden(
            "checkpoint: only the owner may name a path, with --allow_configs; write the number of "
            "a run"
        )
    if not pathlib.Path(wanted.partition(":")[0]).exists():
        raise NotFound(f"checkpoint: {wanted}: no such directory on the server")
    return wanted, None


def use(
    connection: Connection, home: Home, user: User, run_id: int, request_id: str
) -> dict[str, Any]:
    """Makes the model of a run the one of its data set: `{"seq", "model"}`."""
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row = runs.get(connection, run_id)
    checkpoint, _ = checkpoint_of(connection, home, user, run_id, False)
    model_id = _model(connection, row.dataset_id, checkpoint, run_id)
    set_current(connection, row.dataset_id, model_id)
    action = Action(
        *(request_id, user.id, row.dataset_id, "model.use"),
        what=f"made run {run_id} the model",
        undoable=False,
    )
    return changes.record(connection, action, result={"model": model_id})


def run_of(connection: Connection, model_id: int | None) -> int | None:
    """The run that a model is of; None for a checkpoint from elsewhere."""
    return connection.execute(sa.select(model.c.run_id).where(model.c.id == model_id)).scalar()


def set_current(connection: Connection, dataset_id: int, model_id: int) -> None:
    """Makes a model the one whose suggestions are shown."""
    here = dataset.c.id == dataset_id
    connection.execute(dataset.update().where(here).values(model_id=model_id))


def suggest(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    checkpoint: str,
    run_id: int | None,
    ids: list[int] | None,
) -> dict[str, Any]:
    """Adds a run that predicts images, and then makes its model the one of the data set.

    Args:
      connection: of the writer.
      user: who wants it.
      dataset_id: the data set.
      request_id: made by the client.
      checkpoint, run_id: of the model.
      ids: the images to predict; None for all.

    Returns:
      `{"seq", "id", "model"}`: of the run that predicts.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    model_id = _model(connection, dataset_id, checkpoint, run_id)
    name = f"run {run_id}" if run_id is not None else checkpoint
    arguments = {"model": model_id, "checkpoint": checkpoint, "images": ids, "run": run_id}
    found = runs.add(
        *(connection, user, dataset_id, request_id),
        kind="suggest",
        arguments=arguments,
        what=f"asked {name} for suggestions",
    )
    return {**found, "model": model_id}


def suggest_task(database: Database, home: Home, row: Any) -> dict[str, Any]:
    """What the process of a run of suggestions gets."""
    with database.read() as connection:
        images = list_images(connection, home, row.dataset_id, row.arguments["images"])
    return {"checkpoint": row.arguments["checkpoint"], "images": images}


def store(database: Database, home: Home, row: Any) -> None:
    """Stores the suggestions of a run, and makes its model the one of the data set."""
    model_id = row.arguments["model"]
    with np.load(runs.folder_of(home, row) / PREDICTIONS) as file:
        ids, probabilities = file["ids"].tolist(), file["probabilities"]
        names = [str(name) for name in file["class_names"]]
    with database.read() as connection:
        class_ids = _class_ids(connection, row.dataset_id, row.arguments["run"], names)
    for part in chunks(list(range(len(ids))), _PART):
        rows = [
            values
            for i in part
            for values in _suggestions(model_id, ids[i], probabilities[i], class_ids)
        ]
        database.write(_replace, model_id, [ids[i] for i in part], rows)
    _save_uncertainty(home, model_id, ids, probabilities)
    database.write(_make_current, row, model_id)
    _forget_others(database, row.dataset_id, model_id)


def uncertainty_file(home: Home, model_id: int) -> pathlib.Path:
    """File with how uncertain a model is about images: `ids`, `uncertainty`."""
    return home.features / f"uncertainty-{model_id}.npz"


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """How uncertain a model is, from 0 to 1: the entropy, as a share of the largest possible.

    Rows that do not sum to 1 are of a multi-label model: the mean over the classes.

    Args:
      probabilities: float `[N, K]`.

    Returns:
      float64 `[N]`.
    """
    p = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1 - 1e-12)
    if not len(p):
        return np.zeros(0)
    if p.shape[1] > 1 and np.allclose(p.sum(1), 1, atol=1e-3):
        return -(p * np.log(p)).sum(1) / np.log(p.shape[1])
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean(1)


def list_images(
    connection: Connection, home: Home, dataset_id: int, ids: list[int] | None = None
) -> list[list[Any]]:
    """`[id, path, media]` of images of a data set that are not removed; of all for None."""
    query = sa.select(image).where(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
    rows: list[Any] = []
    if ids is None:
        rows = list(connection.execute(query.order_by(image.c.id)))
    else:
        for part in chunks(ids):
            rows += connection.execute(query.where(among(image.c.id, part)))
    return [
        [row.id, row.path or str(home.picture(row.sha256, row.extension)), row.media]
        for row in rows
    ]


def _model(connection: Connection, dataset_id: int, checkpoint: str, run_id: int | None) -> int:
    """The id of the model of a checkpoint."""
    same = sa.and_(model.c.dataset_id == dataset_id, model.c.checkpoint == checkpoint)
    known = connection.execute(sa.select(model.c.id).where(same)).scalar()
    if known is not None:
        return known
    values = {"dataset_id": dataset_id, "checkpoint": checkpoint, "run_id": run_id}
    values["created"] = time.time()
    key = connection.execute(model.insert().values(values)).inserted_primary_key
    assert key is not None
    return key[0]


def _class_ids(
    connection: Connection, dataset_id: int, run_id: int | None, names: list[str]
) -> list[int | None]:
    """The class of the data set for each class of a model; None where there is none.

    Those of a run of the studio are known by their ids, so that they may be renamed or merged.
    """
    classes = read_classes(connection, dataset_id)
    known = {classes.rows[c].name: c for c in classes.live}
    if run_id is not None:
        query = sa.select(version.c.class_ids).join(run, run.c.version_id == version.c.id)
        frozen = connection.execute(query.where(run.c.id == run_id)).scalar_one_or_none() or {}
        known |= {name: c for name, old in frozen.items() if (c := classes.resolve(old))}
    return [known.get(name) for name in names]


def _suggestions(
    model_id: int, image_id: int, row: np.ndarray, class_ids: list[int | None]
) -> list[dict[str, Any]]:
    order = np.argsort(-row, kind="stable")
    best: dict[int, float] = {}
    for i in order:
        class_id = class_ids[i]
        if class_id is not None and class_id not in best:
            best[class_id] = float(row[i])
    kept = [pair for rank, pair in enumerate(best.items()) if rank == 0 or pair[1] >= MIN_SCORE]
    return [
        {"model_id": model_id, "image_id": image_id, "rank": rank}
        | {"class_id": class_id, "score": round(score, 6)}
        for rank, (class_id, score) in enumerate(kept[:TOP])
    ]


def _replace(
    connection: Connection, model_id: int, ids: list[int], rows: list[dict[str, Any]]
) -> None:
    """Replaces a model's suggestions for images."""
    mine = prediction.c.model_id == model_id
    connection.execute(prediction.delete().where(mine, among(prediction.c.image_id, ids)))
    if rows:
        connection.execute(prediction.insert(), rows)


def _make_current(connection: Connection, row: Any, model_id: int) -> None:
    set_current(connection, row.dataset_id, model_id)
    # A change, so that the pages show the suggestions.
    action = Action(
        *(f"run-{row.id}-suggestions", row.started_by, row.dataset_id, "suggest"),
        what=f"suggestions of run {row.id} are shown",
        undoable=False,
    )
    if changes.repeated(connection, action.request_id, action.user_id) is None:
        changes.record(connection, action)


def _forget_others(database: Database, dataset_id: int, model_id: int) -> None:
    """Deletes the suggestions of earlier models of a data set."""
    others = sa.select(model.c.id).where(model.c.dataset_id == dataset_id, model.c.id != model_id)
    with database.read() as connection:
        query = sa.select(prediction.c.image_id).distinct()
        ids = list(connection.execute(query.where(prediction.c.model_id.in_(others))).scalars())

    def delete(connection: Connection, part: list[int]) -> None:
        old = prediction.c.model_id.in_(others)
        connection.execute(prediction.delete().where(old, among(prediction.c.image_id, part)))

    for part in chunks(ids, _PART):
        database.write(delete, part)


def _save_uncertainty(home: Home, model_id: int, ids: list[int], probabilities: np.ndarray) -> None:
    """Adds how uncertain a model is about images to its file."""
    file, values = uncertainty_file(home, model_id), {}
    if file.exists():
        with np.load(file) as old:
            values = dict(zip(old["ids"].tolist(), old["uncertainty"].tolist(), strict=True))
    values |= dict(zip(ids, uncertainty(probabilities).tolist(), strict=True))
    partial = file.with_name(f".{file.name}")
    with open(partial, "wb") as out:
        np.savez(out, ids=np.array([*values], int), uncertainty=np.array([*values.values()], float))
    partial.replace(file)


def version_source(database: Database, home: Home, row: Any) -> dict[str, Any]:
    """The keys of `config.data` of a run's version, and its directory as `folder`."""
    with database.read() as connection:
        found = versions.get(connection, row.version_id)
    return {**versions.source_of(home, found), "folder": str(versions.folder_of(home, found))}
