"""Training on a version, and what a model got right and wrong."""

import collections
import json
import pathlib
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict, Refused
from imgcls.studio.home import Home
from imgcls.studio.learning import models, recipes, runs, versions
from imgcls.studio.learning.tasks import RESULTS
from imgcls.studio.store.classmap import read_classes
from imgcls.studio.store.connect import Database
from imgcls.studio.store.schema import image
from imgcls.studio.store.users import User

# Metrics often enough for a curve that moves; the numbers of the run do not depend on it.
_LOG = {"log.every": "2 percent", "log.tensorboard": "False"}
NONE = "(none)"


def add(
    connection: Connection,
    home: Home,
    user: User,
    dataset_id: int,
    request_id: str,
    *,
    version_id: int,
    recipe: str,
    arguments: dict[str, Any],
    keys: dict[str, Any],
    allow_configs: bool,
) -> dict[str, Any]:
    """Adds a run that trains a recipe on a version: `{"seq", "id", "version"}`.

    Args:
      connection: of the writer.
      home: of the studio.
      user: who starts it.
      dataset_id: the data set.
      request_id: made by the client.
      version_id: of that data set.
      recipe: name of a recipe.
      arguments: of the recipe.
      keys: of the config.
      allow_configs: see `recipes.arguments_of`.

    Raises:
      ConfigError: an unknown recipe, argument or key, or one that is not allowed.
    """
    row = versions.get(connection, version_id)
    if row.dataset_id != dataset_id:
        raise Refused(f"version {version_id} is of data set {row.dataset_id}, not {dataset_id}")
    source = versions.source_of(home, row)
    keys = {key.removeprefix("config."): value for key, value in keys.items()}
    command = recipes.arguments_of(
        recipe, arguments, {**_LOG, **keys}, source, allow_configs, home.runs
    )
    found = runs.add(
        *(connection, user, dataset_id, request_id),
        kind="train",
        recipe=recipe,
        version_id=version_id,
        arguments={"arguments": arguments, "config": keys, "command": command},
        what=f"started to train {recipe} on {row.name}",
    )
    return {**found, "version": version_id}


def task(database: Database, home: Home, row: Any) -> dict[str, Any]:
    """What the process of a training run gets."""
    folder = models.version_source(database, home, row)["folder"]
    return {"arguments": row.arguments["command"], "version": folder}


def read_results(home: Home, row: Any) -> dict[str, Any]:
    """`results.json` of a run, see `tasks.write_results`.

    Raises:
      Conflict: it is not there.
    """
    file = pathlib.Path(runs.folder_of(home, row) / RESULTS)
    try:
        return json.loads(file.read_text())
    except OSError:
        wait = "wait until it is done" if row.state in runs.ACTIVE else "see its log"
        raise Conflict(f"run {row.id} has no results: {wait}") from None


def confusion(connection: Connection, home: Home, row: Any) -> dict[str, Any]:
    """What was tagged against what was predicted, with the images of each cell.

    An image with several tags counts at each that it has: on the diagonal where the prediction has
    it too, else in the columns of the classes predicted in its place. `(none)` is no class.

    Returns:
      `{"split", "classes": [{"id", "name"}], "counts": [[int]], "images": {"row,column": [ids]},
      "metrics"}`, rows by tag and columns by prediction.
    """
    results, ids = read_results(home, row), _image_ids(connection, home, row)
    names = results["class_names"]
    classes = [
        {"id": c, "name": n} for n, c in zip(names, _ids(connection, row, names), strict=True)
    ]
    cells: dict[tuple[int, int], list[int | None]] = collections.defaultdict(list)
    for path, tagged, predicted, _ in results["rows"]:
        for cell in cells_of(tagged, predicted, len(names)):
            cells[cell].append(ids.get(path))
    size = len(names)
    if any(size in cell for cell in cells):
        size += 1
        classes.append({"id": None, "name": NONE})
    counts = [[len(cells.get((r, c), ())) for c in range(size)] for r in range(size)]
    images = {f"{r},{c}": [i for i in found if i] for (r, c), found in sorted(cells.items())}
    shown = {"split": results["split"], "classes": classes, "counts": counts, "images": images}
    return shown | {"metrics": results["metrics"]}


def cells_of(tagged: list[int], predicted: list[int], none: int) -> list[tuple[int, int]]:
    """The cells of the confusion matrix that an image counts in; `none` stands for no class."""
    both = sorted(set(tagged) & set(predicted))
    missed, wrong = sorted(set(tagged) - set(both)), sorted(set(predicted) - set(both))
    cells = [(c, c) for c in both]
    cells += [(m, w) for m in missed for w in wrong or [none]]
    if not missed:
        cells += [(none, w) for w in wrong]
    return cells or [(none, none)]


def mistakes(connection: Connection, home: Home, row: Any) -> dict[str, Any]:
    """The images that a model got wrong, the most certain mistakes first.

    Returns:
      `{"split", "total", "mistakes": [{"image", "path", "tagged", "predicted", "score"}]}`.
    """
    results, ids = read_results(home, row), _image_ids(connection, home, row)
    names = results["class_names"]
    wrong = [entry for entry in results["rows"] if entry[1] != entry[2]]
    wrong.sort(key=lambda entry: -entry[3])
    listed = [
        {
            "image": ids.get(path),
            "path": path,
            "tagged": [names[c] for c in tagged],
            "predicted": [names[c] for c in predicted],
            "score": score,
        }
        for path, tagged, predicted, score in wrong
    ]
    return {"split": results["split"], "total": len(results["rows"]), "mistakes": listed}


def _image_ids(connection: Connection, home: Home, row: Any) -> dict[str, int]:
    """`{path in the version: image}`."""
    version = versions.get(connection, row.version_id)
    query = sa.select(image.c.sha256, image.c.id).where(image.c.dataset_id == row.dataset_id)
    known = {sha256: image_id for sha256, image_id in connection.execute(query)}
    paths = versions.paths_of(home, version)
    return {path: known[sha256] for path, sha256 in paths.items() if sha256 in known}


def _ids(connection: Connection, row: Any, names: list[str]) -> list[int | None]:
    """The classes of today, of the names in a version."""
    frozen = versions.get(connection, row.version_id).class_ids
    classes = read_classes(connection, row.dataset_id)
    return [classes.resolve(frozen[name]) if name in frozen else None for name in names]
