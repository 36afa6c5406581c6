"""How much taggers agree beyond chance."""

import collections
import itertools
from collections.abc import Hashable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.studio.store import datasets, users
from imgcls.studio.store.classmap import read_classes
from imgcls.studio.store.consensus import Vote
from imgcls.studio.store.schema import answer, image


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two people's choices for the same images (Cohen 1960, equation 1).

    None where it is not defined: no images, or both always choose the same one thing.
    """
    count = len(first)
    if not count:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    one, other = collections.Counter(first), collections.Counter(second)
    expected = sum(one[choice] * other[choice] for choice in one) / count**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def agreement(connection: Connection, dataset_id: int) -> dict[str, Any]:
    """Compares each pair of people who decided on the same images.

    Single-label: "none of these" is a choice like the classes. Multi-label: kappa of each class
    (named or not) and their mean.

    Returns:
      `{"pairs": [{"users", "names", "images", "agree", "kappa", "by_class": {class: kappa}}],
      "disputed": images on which taggers disagree}`.
    """
    kind = datasets.get(connection, dataset_id).kind
    choices = _choices(connection, dataset_id)
    who = users.names(connection)
    pairs = []
    for a, b in itertools.combinations(sorted(choices), 2):
        common = sorted(choices[a].keys() & choices[b].keys())
        if not common:
            continue
        first, second = [choices[a][i] for i in common], [choices[b][i] for i in common]
        by_class = _by_class(first, second)
        defined = [value for value in by_class.values() if value is not None]
        mean = sum(defined) / len(defined) if defined else None
        pairs.append(
            {
                "users": [a, b],
                "names": [who.get(a), who.get(b)],
                "images": len(common),
                "agree": sum(x == y for x, y in zip(first, second, strict=True)),
                "kappa": kappa(first, second) if kind == "single" else mean,
                "by_class": by_class,
            }
        )
    query = sa.select(sa.func.count()).where(
        image.c.dataset_id == dataset_id, image.c.disputed.is_(True), image.c.removed.is_(False)
    )
    return {"pairs": pairs, "disputed": connection.execute(query).scalar_one()}


def _choices(connection: Connection, dataset_id: int) -> dict[int, dict[int, frozenset[int]]]:
    """`{user: {image: classes}}` of the answers that decide."""
    classes = read_classes(connection, dataset_id)
    query = (
        sa.select(answer.c.image_id, answer.c.user_id, answer.c.tags, answer.c.flag)
        .join(image, image.c.id == answer.c.image_id)
        .where(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
    )
    found: dict[int, dict[int, frozenset[int]]] = collections.defaultdict(dict)
    for image_id, user, tags, flag in connection.execute(query):
        vote = Vote(user, classes.classes(tags), flag)
        if vote.decides:
            found[user][image_id] = vote.classes
    return found


def _by_class(
    first: Sequence[frozenset[int]], second: Sequence[frozenset[int]]
) -> dict[int, float | None]:
    named = sorted(frozenset().union(*first, *second))
    return {c: kappa([c in a for a in first], [c in b for b in second]) for c in named}
