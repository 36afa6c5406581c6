"""Orders of images that say what to tag or look at first.

Images of the test split come in random order among the others, whatever the order: a test set that
is chosen by a model's doubts would no longer be a fair sample.
"""

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.errors import Conflict, NotFound, Refused
from imgcls.studio.home import Home
from imgcls.studio.learning import features, models
from imgcls.studio.store import datasets
from imgcls.studio.store.connect import among, chunks
from imgcls.studio.store.schema import finding, image, label
from imgcls.studio.store.users import User

SORTS = ("uncertain", "diverse", "likely_wrong", "similar:IMAGE")
LABEL_ERROR = "label_error"
# Images that are chosen one after the other to be diverse; the others follow by their distance.
MOST_CENTERS = 200


def sort_ids(
    connection: Connection, home: Home, dataset_id: int, user: User, ids: list[int], sort: str
) -> list[int]:
    """Puts images in an order of `SORTS`.

    Args:
      connection: that reads.
      home: with the features.
      dataset_id: of the images.
      user: who asks.
      ids: the images.
      sort: the order.

    Raises:
      Refused: unknown order.
      Conflict: what the order needs was not computed yet.
    """
    name, _, value = sort.partition(":")
    if name == "similar" and value.isdecimal():
        return _similar(home, dataset_id, ids, int(value))
    if sort not in SORTS[:3]:
        raise Refused(f"sort: {sort!r}; write {', '.join(SORTS)}, or an order of columns")
    chance, tests = _random_order(connection, dataset_id)
    others = [i for i in ids if i not in tests]
    if name == "uncertain":
        ranked = _by_uncertainty(connection, home, dataset_id, others, chance)
    elif name == "diverse":
        ranked = _by_diversity(connection, home, dataset_id, others, chance)
    else:
        ranked = _by_suspicion(connection, dataset_id, others, chance)
    return spread(ranked, sorted((i for i in ids if i in tests), key=chance.__getitem__))


def spread(ids: list[int], among_them: list[int]) -> list[int]:
    """Two lists as one, each in its own order, the second spread evenly among the first."""
    places = [((i + 0.5) / len(ids), 0, one) for i, one in enumerate(ids)]
    places += [((i + 0.5) / len(among_them), 1, one) for i, one in enumerate(among_them)]
    return [one for _, _, one in sorted(places)]


def k_centers(x: np.ndarray, known: np.ndarray, count: int) -> tuple[list[int], np.ndarray]:
    """Chooses rows so that each is as far as possible from those chosen before (Gonzalez 1985).

    Sener & Savarese 2018 (arXiv:1708.00489) choose the images to label in this way: algorithm 1.

    Args:
      x: float `[N, D]`, the rows to choose from.
      known: float `[M, D]`, rows that count as chosen; without any, the first is the row that is
        nearest to the mean.
      count: number of rows to choose.

    Returns:
      The chosen rows in order, and the squared distance of each row to the nearest chosen one,
      `[N]`.
    """
    if not len(x):
        return [], np.zeros(0)
    norms = (x**2).sum(1)
    nearest = np.full(len(x), np.inf)
    for part in np.array_split(known, max(1, len(known) // 1024)) if len(known) else ():
        squared = norms[:, None] - 2 * x @ part.T + (part**2).sum(1)
        nearest = np.minimum(nearest, squared.min(1))
    chosen: list[int] = []
    for _ in range(min(count, len(x))):
        if not chosen and not len(known):
            best = int(((x - x.mean(0)) ** 2).sum(1).argmin())
        else:
            best = int(nearest.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, norms - 2 * x @ x[best] + norms[best])
        nearest[chosen] = -np.inf
    return chosen, nearest


def _similar(home: Home, dataset_id: int, ids: list[int], image_id: int) -> list[int]:
    """The image itself, then the nearest by features; those without features last."""
    known, values = features.load(home, dataset_id)
    rows = {image: row for row, image in enumerate(known.tolist())}
    if image_id not in rows:
        raise Conflict(
            f"image {image_id} has no features yet: POST /api/datasets/{dataset_id}/features, and "
            "ask again once that run is done",
            needs="features",
        )
    have = [i for i in ids if i in rows]
    closeness = values[[rows[i] for i in have]] @ values[rows[image_id]]
    order = np.argsort(-closeness, kind="stable")
    ranked = [have[i] for i in order]
    if image_id in ranked:
        ranked = [image_id, *(i for i in ranked if i != image_id)]
    return ranked + [i for i in ids if i not in rows]


def _by_uncertainty(
    connection: Connection, home: Home, dataset_id: int, ids: list[int], chance: dict[int, int]
) -> list[int]:
    model_id = datasets.get(connection, dataset_id).model_id
    file = None if model_id is None else models.uncertainty_file(home, model_id)
    if file is None or not file.exists():
        raise Conflict(
            "this order needs a model's suggestions: train one and use it, or POST "
            f"/api/datasets/{dataset_id}/suggest",
            needs="suggestions",
        )
    with np.load(file) as found:
        values = dict(zip(found["ids"].tolist(), found["uncertainty"].tolist(), strict=True))
    return sorted(ids, key=lambda i: (-values.get(i, -1.0), chance[i]))


def _by_diversity(
    connection: Connection, home: Home, dataset_id: int, ids: list[int], chance: dict[int, int]
) -> list[int]:
    known, values = features.load(home, dataset_id)
    rows = {image: row for row, image in enumerate(known.tolist())}
    here = sa.and_(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
    query = sa.select(label.c.image_id).join(image, image.c.id == label.c.image_id).where(here)
    tagged = set(connection.execute(query).scalars())
    have = [i for i in ids if i in rows and i not in tagged]
    centers = values[[rows[i] for i in sorted(tagged) if i in rows]]
    chosen, distance = k_centers(values[[rows[i] for i in have]], centers, MOST_CENTERS)
    first = set(chosen)
    rest = [i for i in np.argsort(-distance, kind="stable").tolist() if i not in first]
    ranked = [have[i] for i in (*chosen, *rest)]
    others = set(ids) - set(ranked)
    return ranked + sorted(others, key=lambda i: (i in tagged, chance[i]))


def _by_suspicion(
    connection: Connection, dataset_id: int, ids: list[int], chance: dict[int, int]
) -> list[int]:
    query = sa.select(finding.c.image_id).join(image, image.c.id == finding.c.image_id)
    query = query.where(image.c.dataset_id == dataset_id, finding.c.kind == LABEL_ERROR)
    suspects = list(connection.execute(query.order_by(finding.c.id)).scalars())
    rank = {image_id: number for number, image_id in reversed(list(enumerate(suspects)))}
    return sorted(ids, key=lambda i: (rank.get(i, len(suspects)), chance[i]))


def _random_order(connection: Connection, dataset_id: int) -> tuple[dict[int, int], set[int]]:
    """The place of each image in a random order, and the images of the test split."""
    query = sa.select(image.c.id, image.c.seed_order, image.c.split)
    rows = connection.execute(query.where(image.c.dataset_id == dataset_id)).all()
    return {row.id: row.seed_order for row in rows}, {r.id for r in rows if r.split == "test"}


def check_image(connection: Connection, dataset_id: int, ids: list[int]) -> None:
    """Raises NotFound unless all images are of a data set."""
    found: set[int] = set()
    for part in chunks(ids):
        query = sa.select(image.c.id).where(among(image.c.id, part))
        found.update(connection.execute(query.where(image.c.dataset_id == dataset_id)).scalars())
    if missing := [i for i in ids if i not in found]:
        raise NotFound(f"there is no image {missing[0]} in data set {dataset_id}")
