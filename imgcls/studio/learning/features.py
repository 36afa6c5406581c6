"""Features of images for orders and similarity: those of a model, or small ones without a model."""

import pathlib
import shutil
from typing import Any

import numpy as np
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict
from imgcls.studio.home import Home
from imgcls.studio.learning import models, runs
from imgcls.studio.learning.tasks import FEATURES
from imgcls.studio.store.connect import Database
from imgcls.studio.store.users import User


def add(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    checkpoint: str | None,
    run_id: int | None,
) -> dict[str, Any]:
    """Adds a run that computes the features of all images: `{"seq", "id"}`."""
    return runs.add(
        *(connection, user, dataset_id, request_id),
        kind="features",
        arguments={"checkpoint": checkpoint, "run": run_id},
        what="asked for features",
    )


def task(database: Database, home: Home, row: Any) -> dict[str, Any]:
    """What the process of a run of features gets."""
    with database.read() as connection:
        images = models.list_images(connection, home, row.dataset_id)
    return {"checkpoint": row.arguments["checkpoint"], "images": images}


def store(database: Database, home: Home, row: Any) -> None:
    """Makes the features of a run those of the data set."""
    source, target = runs.folder_of(home, row) / FEATURES, file_of(home, row.dataset_id)
    partial = target.with_name(f".{target.name}")
    shutil.move(source, partial)
    partial.replace(target)


def file_of(home: Home, dataset_id: int) -> pathlib.Path:
    """File of a data set's features: `ids` int `[N]`, `features` float32 `[N, D]` of length 1."""
    return home.features / f"dataset-{dataset_id}.npz"


def load(home: Home, dataset_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids `[N]` and features `[N, D]` of the images of a data set.

    Raises:
      Conflict: they were not computed yet; `needs` says so.
    """
    try:
        with np.load(file_of(home, dataset_id)) as file:
            return file["ids"], file["features"]
    except FileNotFoundError:
        raise Conflict(
            "this order needs features of the images, which were not computed yet; "
            f"POST /api/datasets/{dataset_id}/features, and ask again once that run is done",
            needs="features",
        ) from None
