"""The tables. Ids are integers, times are UTC seconds as floats.

What people decide is in `change` and `change_image`, which only grow: the columns marked "derived"
and the tables `tag` and `label` follow from them (`imgcls studio check` rebuilds and compares).
"""

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.types import TypeDecorator


class Encoded(str):
    """JSON that is encoded already: the same value for thousands of rows is encoded once."""


def encode(value: Any) -> Encoded:
    """Encodes as JSON, equal values as equal text."""
    return Encoded(json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False))


class Json(TypeDecorator[Any]):
    """JSON as text, the same in every database; None is NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None or isinstance(value, Encoded):
            return value
        return encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True, autoincrement=True)


user = Table(
    "user",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("role", String(20), nullable=False),  # tagger, reviewer, owner
    Column("token_hash", String(200), index=True),
    Column("created", Float, nullable=False),
    Column("active", Boolean, nullable=False, server_default=true()),
)

dataset = Table(
    "dataset",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("kind", String(20), nullable=False),  # single, multi
    Column("taggers", Integer, nullable=False, server_default=text("1")),
    Column("archived", Boolean, nullable=False, server_default=false()),
    Column("created", Float, nullable=False),
    Column("fractions", Json, nullable=False),  # {"train": 0.8, "val": 0.1, "test": 0.1}
    # The model whose predictions are suggested; see `model`.
    Column("model_id", Integer),
)

# `class` is a word of Python.
klass = Table(
    "class",
    metadata,
    _id(),
    Column("dataset_id", ForeignKey("dataset.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("colour", String(7), nullable=False),
    Column("hotkey", String(1)),
    Column("description", Text, nullable=False, server_default=""),
    Column("position", Integer, nullable=False),
    # Tags of a deleted or merged class stay in `answer`, so that undo brings them back.
    Column("deleted", Boolean, nullable=False, server_default=false()),
    Column("merged_into", ForeignKey("class.id")),
    # [{"id": "a1", "name": ..., "kind": choice|choices|yes_no|number|text, "options": [...]}]
    Column("attributes", Json, nullable=False),
)

image = Table(
    "image",
    metadata,
    _id(),
    Column("dataset_id", ForeignKey("dataset.id"), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("folder", Text, nullable=False, server_default=""),
    Column("media", String(10), nullable=False),  # image, video, volume
    Column("extension", String(20), nullable=False),
    # Absolute path of a file that is registered in place; null: in the home's `pictures`.
    Column("path", Text),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("frames", Integer, nullable=False, server_default=text("1")),
    Column("bytes", BigInteger, nullable=False),
    # The near-duplicate group: the id of its first image.
    Column("cluster", Integer, nullable=False),
    # Perceptual hash, 16 hexadecimal digits.
    Column("hash", String(16)),
    Column("uploaded_by", ForeignKey("user.id")),
    Column("uploaded", Float, nullable=False),
    Column("seed_order", Integer, nullable=False),  # a random order
    # From the changes:
    Column("split", String(20), nullable=False),
    Column("comment", Text, nullable=False, server_default=""),
    Column("in_review", Boolean, nullable=False, server_default=false()),  # sent by hand
    Column("reviewed_by", ForeignKey("user.id")),
    Column("removed", Boolean, nullable=False, server_default=false()),
    # Derived: new, in_progress, review, done; whether taggers disagree.
    Column("status", String(20), nullable=False, server_default="new"),
    Column("disputed", Boolean, nullable=False, server_default=false()),
    # The last change of the image, and the last of its review state.
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("review_revision", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("dataset_id", "sha256"),
    Index("ix_image_dataset_id_cluster", "dataset_id", "cluster"),
)

# Small color pictures that confirm near duplicates: uint8 [16, 16, 3].
signature = Table(
    "signature",
    metadata,
    Column("image_id", ForeignKey("image.id"), primary_key=True),
    Column("thumb", LargeBinary, nullable=False),
)

answer = Table(
    "answer",
    metadata,
    Column("image_id", ForeignKey("image.id"), primary_key=True),
    Column("user_id", ForeignKey("user.id"), primary_key=True),
    # {"<class id>": {"attributes": {"a1": ...}, "text": "..."}}, as given: classes may be merged or
    # deleted since, see `classes.ClassMap`.
    Column("tags", Json, nullable=False),
    Column("flag", String(10)),  # null, none (none of these), unsure, skip
    Column("revision", Integer, nullable=False),  # the last change of this answer
    Column("time", Float, nullable=False),
    Index("ix_answer_user_id_image_id", "user_id", "image_id"),
)

# Derived from the answers: who tagged what.
tag = Table(
    "tag",
    metadata,
    Column("image_id", ForeignKey("image.id"), primary_key=True),
    Column("class_id", ForeignKey("class.id"), primary_key=True),
    Column("user_id", ForeignKey("user.id"), primary_key=True),
    Index("ix_tag_class_id_user_id_image_id", "class_id", "user_id", "image_id"),
)

# Derived: the settled tags, by consensus or by the reviewer.
label = Table(
    "label",
    metadata,
    Column("image_id", ForeignKey("image.id"), primary_key=True),
    Column("class_id", ForeignKey("class.id"), primary_key=True),
    Index("ix_label_class_id_image_id", "class_id", "image_id"),
)

change = Table(
    "change",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False, unique=True),
    Column("time", Float, nullable=False),
    Column("user_id", ForeignKey("user.id")),
    Column("dataset_id", ForeignKey("dataset.id")),
    # answer, accept, bulk, upload, import, undo, redo, dataset.create, dataset.change,
    # class.create, class.change, class.merge, class.delete
    Column("kind", String(30), nullable=False),
    Column("what", Text, nullable=False, server_default=""),  # the action as a line of text
    Column("data", Json, nullable=False),
    Column("result", Json, nullable=False),  # the answer to the request, for its repetitions
    Column("undoable", Boolean, nullable=False, server_default=false()),
    Column("undoes", Integer),  # of an undo or redo: the action
    Column("undone_by", Integer),  # of an action: the undo that is in force
    Column("redone_by", Integer),  # of an action: the last redo
    Index("ix_change_dataset_id_user_id_seq", "dataset_id", "user_id", "seq"),
    sqlite_autoincrement=True,
)

# before and after have the parts that changed: {"user": id, "answer": {"tags", "flag"} | null},
# split, comment, in_review, reviewed_by, removed.
change_image = Table(
    "change_image",
    metadata,
    Column("seq", ForeignKey("change.seq"), primary_key=True),
    Column("image_id", ForeignKey("image.id"), primary_key=True),
    Column("before", Json, nullable=False),
    Column("after", Json, nullable=False),
    Index("ix_change_image_image_id_seq", "image_id", "seq"),
)

# Suggestions of a model, best first (rank 0).
prediction = Table(
    "prediction",
    metadata,
    Column("model_id", ForeignKey("model.id"), primary_key=True),
    Column("image_id", ForeignKey("image.id"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("class_id", ForeignKey("class.id"), nullable=False),
    Column("score", Float, nullable=False),
    Index("ix_prediction_image_id_model_id", "image_id", "model_id"),
)

finding = Table(
    "finding",
    metadata,
    _id(),
    Column("image_id", ForeignKey("image.id"), nullable=False, index=True),
    Column("kind", String(40), nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
)

version = Table(
    "version",
    metadata,
    _id(),
    Column("dataset_id", ForeignKey("dataset.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("created", Float, nullable=False),
    Column("created_by", ForeignKey("user.id")),
    Column("manifest", Text, nullable=False),  # path below the home
    Column("digest", String(64), nullable=False),
    Column("count", Integer, nullable=False),
    # {"name of a class": its id}
    Column("class_ids", Json, nullable=False),
)

run = Table(
    "run",
    metadata,
    _id(),
    Column("dataset_id", ForeignKey("dataset.id"), nullable=False, index=True),
    # train, suggest (predictions), features (for orders and similarity), audit
    Column("kind", String(20), nullable=False, server_default="train"),
    Column("version_id", ForeignKey("version.id")),
    Column("started_by", ForeignKey("user.id")),
    Column("workdir", Text, nullable=False),  # path below the home
    Column("recipe", String(200), nullable=False),
    Column("arguments", Json, nullable=False),
    # waiting, running, stopping, stopped, done, failed
    Column("state", String(20), nullable=False),
    Column("error", Text, nullable=False, server_default=""),  # why it failed
    Column("pid", Integer),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("exit", Integer),
)

# What predictions come from: a run of the studio, or a checkpoint.
model = Table(
    "model",
    metadata,
    _id(),
    Column("dataset_id", ForeignKey("dataset.id"), nullable=False, index=True),
    Column("run_id", ForeignKey("run.id")),
    Column("checkpoint", Text, nullable=False),
    Column("created", Float, nullable=False),
)

# Who is logged in with a browser: SHA-256 of the cookie.
session = Table(
    "session",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user_id", ForeignKey("user.id"), nullable=False, index=True),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
)

# Uploads in parts; the bytes received so far are `uploads/<id>` in the home.
upload = Table(
    "upload",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("dataset_id", ForeignKey("dataset.id"), nullable=False),
    Column("user_id", ForeignKey("user.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64)),
    Column("created", Float, nullable=False),
)
