"""Which images: filters as SQL, and orders."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import Connection

from imgcls.studio.errors import Refused
from imgcls.studio.store import datasets
from imgcls.studio.store.connect import among
from imgcls.studio.store.schema import answer, dataset, finding, image, label, prediction, tag


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


# One value or several; several are or-ed.
Ids = Annotated[list[int], BeforeValidator(_listed), Field(default_factory=list, max_length=1000)]
Names = Annotated[list[str], BeforeValidator(_listed), Field(default_factory=list, max_length=100)]
Status = Literal["new", "in_progress", "review", "done"]
Statuses = Annotated[list[Status], BeforeValidator(_listed), Field(default_factory=list)]
Flags = Annotated[
    list[Literal["none", "unsure", "skip"]], BeforeValidator(_listed), Field(default_factory=list)
]


class Filter(BaseModel):
    """Images of a data set: everything that is given has to hold."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    classes: Annotated[Ids, Field(alias="class", description="a settled label")]
    tagged_by: Annotated[Ids, Field(description="a user who tagged it")]
    untagged: Annotated[bool, Field(description="not tagged by me")] = False
    status: Statuses
    split: Names
    text: Annotated[str, Field(max_length=200, description="in name, folder, comment or text")] = ""
    since: Annotated[float | None, Field(description="uploaded, UTC seconds")] = None
    until: float | None = None
    predicted: Annotated[Ids, Field(description="the model's first class")]
    confidence_min: float | None = None
    confidence_max: float | None = None
    disagrees: Annotated[bool, Field(description="label and prediction differ")] = False
    disputed: Annotated[bool, Field(description="taggers disagree")] = False
    flag: Flags
    cluster: Ids
    near_duplicates: Annotated[bool, Field(description="has near duplicates")] = False
    finding: Annotated[Names, Field(description="a kind of audit finding")]
    media: Names
    folder: Names


# Orders that SQL gives; `imgcls.studio.learning.orders` has others.
SORTS = ("id", "-id", "name", "-name", "time", "-time", "confidence", "-confidence", "random")


def ids(
    connection: Connection, dataset_id: int, user_id: int, wanted: Filter, sort: str = "id"
) -> list[int]:
    """The images that a filter selects, in an order of `SORTS`.

    Raises:
      NotFound: there is no such data set.
      Refused: unknown order.
    """
    model_id = datasets.get(connection, dataset_id).model_id
    if sort not in SORTS:
        raise Refused(f"sort: {sort!r}; write one of {', '.join(SORTS)}")
    best = sa.and_(
        *(prediction.c.image_id == image.c.id, prediction.c.rank == 0),
        prediction.c.model_id == (model_id or 0),
    )
    query = sa.select(image.c.id)
    if _needs_prediction(wanted) or "confidence" in sort:
        query = query.select_from(image.outerjoin(prediction, best))
    query = query.where(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
    query = query.where(*_conditions(wanted, dataset_id, user_id))
    name = sort.removeprefix("-")
    column = {
        **{"id": image.c.id, "name": image.c.name, "time": image.c.uploaded},
        **{"confidence": prediction.c.score, "random": image.c.seed_order},
    }[name]
    order = column.desc() if sort.startswith("-") else column.asc()
    query = query.order_by(order.nulls_last(), image.c.id)
    return list(connection.execute(query).scalars())


def _needs_prediction(wanted: Filter) -> bool:
    limits = (wanted.confidence_min, wanted.confidence_max)
    return bool(wanted.predicted) or wanted.disagrees or limits != (None, None)


def _conditions(wanted: Filter, dataset_id: int, user_id: int) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.classes:
        found.append(image.c.id.in_(_where(label, among(label.c.class_id, wanted.classes))))
    if wanted.tagged_by:
        by = _where(tag, among(tag.c.user_id, wanted.tagged_by))
        none = sa.and_(among(answer.c.user_id, wanted.tagged_by), answer.c.flag == "none")
        found.append(image.c.id.in_(by) | image.c.id.in_(_where(answer, none)))
    if wanted.untagged:
        found.append(datasets.without_answer(user_id))
    if wanted.flag:
        found.append(image.c.id.in_(_where(answer, answer.c.flag.in_(wanted.flag))))
    if wanted.finding:
        found.append(image.c.id.in_(_where(finding, finding.c.kind.in_(wanted.finding))))
    for name, values in (
        *(("status", wanted.status), ("split", wanted.split), ("media", wanted.media)),
        *(("cluster", wanted.cluster), ("folder", wanted.folder)),
    ):
        if values:
            found.append(image.c[name].in_(values))
    if wanted.since is not None:
        found.append(image.c.uploaded >= wanted.since)
    if wanted.until is not None:
        found.append(image.c.uploaded <= wanted.until)
    if wanted.disputed:
        found.append(image.c.disputed.is_(True))
    if wanted.near_duplicates:
        several = (
            sa.select(image.c.cluster)
            .where(image.c.dataset_id == dataset_id, image.c.removed.is_(False))
            .group_by(image.c.cluster)
            .having(sa.func.count() > 1)
        )
        found.append(image.c.cluster.in_(several))
    if wanted.text:
        found.append(_contains(wanted.text, dataset_id))
    return found + _of_prediction(wanted)


def _of_prediction(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.predicted:
        found.append(among(prediction.c.class_id, wanted.predicted))
    if wanted.confidence_min is not None:
        found.append(prediction.c.score >= wanted.confidence_min)
    if wanted.confidence_max is not None:
        found.append(prediction.c.score <= wanted.confidence_max)
    if wanted.disagrees:
        mine = label.alias()
        same = sa.exists().where(
            mine.c.image_id == image.c.id, mine.c.class_id == prediction.c.class_id
        )
        labeled = sa.exists().where(label.c.image_id == image.c.id)
        found.append(prediction.c.class_id.is_not(None) & labeled & ~same)
    return found


def _contains(text: str, dataset_id: int) -> sa.ColumnElement[bool]:
    """The text in the name, the folder, the comment, or what people wrote beside a tag."""
    columns = (image.c.name, image.c.folder, image.c.comment)
    found = [column.icontains(text, autoescape=True) for column in columns]
    # As it stands within JSON.
    tags = sa.type_coerce(answer.c.tags, sa.Text)
    inside = text.replace("\\", "\\\\").replace('"', '\\"')
    said = sa.and_(tags.contains('"text":'), tags.icontains(inside, autoescape=True))
    return sa.or_(*found, image.c.id.in_(_where(answer, said)))


def _where(table: sa.Table, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(table.c.image_id).where(condition)


def model_of(connection: Connection, dataset_id: int) -> int | None:
    """The model whose predictions count in a data set."""
    query = sa.select(dataset.c.model_id).where(dataset.c.id == dataset_id)
    return connection.execute(query).scalar()
