"""Bodies of the requests that write."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from imgcls.studio.store.filters import Filter

# Ids fit into the integers of every database.
Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
RequestId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.:-]+$")]
Text = Annotated[str, Field(max_length=10_000)]


class Write(BaseModel):
    """Of each write: `request_id`, a UUID that the client makes. The same again changes nothing."""

    model_config = ConfigDict(extra="forbid")

    request_id: RequestId

    def given(self) -> dict[str, Any]:
        """What the client gave, without the request's id."""
        return self.model_dump(exclude_unset=True, exclude={"request_id"})


class NewDataset(Write):
    """A data set to make. `taggers`: how many people answer each image."""

    name: Name
    kind: Literal["single", "multi"] = "single"
    taggers: Annotated[int, Field(ge=1, le=99)] = 1
    fractions: dict[str, float] | None = None


class DatasetChange(Write):
    """What changes of a data set; a key that is left out stays."""

    name: Name | None = None
    kind: Literal["single", "multi"] | None = None
    taggers: Annotated[int, Field(ge=1, le=99)] | None = None
    archived: bool | None = None
    fractions: dict[str, float] | None = None


class Attribute(BaseModel):
    """A property of a tag. `id` is given by the server; `options` are for choice and choices."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(max_length=20, pattern=r"^\w+$")] | None = None
    name: Name
    kind: Literal["choice", "choices", "yes_no", "number", "text"]
    options: Annotated[list[Name], Field(max_length=1000)] = []


class _ClassParts(BaseModel):
    colour: str | None = None
    hotkey: Annotated[str, Field(max_length=1)] | None = None
    description: Text | None = None
    attributes: Annotated[list[Attribute], Field(max_length=100)] | None = None


class NewClass(_ClassParts):
    """A class to make: all but the name may be left out."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class NewClasses(Write):
    """Classes to make, many at once."""

    classes: Annotated[list[NewClass], Field(min_length=1, max_length=10_000)]


class ClassChange(Write, _ClassParts):
    """What changes of a class; a key that is left out stays."""

    name: Name | None = None
    position: Annotated[int, Field(ge=0, le=10**6)] | None = None


class Merge(Write):
    """The class that another becomes."""

    into: Id


class TagValue(BaseModel):
    """What is said beside a tag. An attribute of null is taken away."""

    model_config = ConfigDict(extra="forbid")

    attributes: dict[str, Any] = {}
    text: Text | None = None


Flag = Literal["none", "unsure", "skip"] | None


class Item(BaseModel):
    """What somebody says about an image; `revision` is what was seen of it."""

    model_config = ConfigDict(extra="forbid")

    image: Id
    revision: Annotated[int, Field(ge=0, le=2**53)] | None = None
    add: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], TagValue] = {}
    remove: Annotated[list[Id], Field(max_length=1000)] = []
    flag: Flag = None
    comment: Text | None = None


class Answers(Write):
    """Answers to images. All are written, or none."""

    items: Annotated[list[Item], Field(min_length=1, max_length=1000)]


class Select(BaseModel):
    """Images: by id, or all that a filter selects."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Id], Field(max_length=1_000_000)] | None = None
    filter: Filter | None = None


class Accept(BaseModel):
    """The lowest score of suggestions that are accepted."""

    model_config = ConfigDict(extra="forbid")

    min: float = 0.0


class BulkAction(BaseModel):
    """What is done to each image; several at once are one action."""

    model_config = ConfigDict(extra="forbid")

    tag: Annotated[list[Id], Field(min_length=1, max_length=1000)] | None = None
    untag: Annotated[list[Id], Field(min_length=1, max_length=1000)] | None = None
    flag: Flag = None
    split: Literal["train", "val", "test"] | None = None
    status: Literal["review"] | None = None
    accept: Accept | None = None
    reopen: bool | None = None
    approve: bool | None = None
    remove: bool | None = None

    def given(self) -> dict[str, Any]:
        """The parts that are there; a flag of null clears the flag."""
        found = self.model_dump(exclude_unset=True)
        return {k: v for k, v in found.items() if k == "flag" or v not in (None, False)}


class Bulk(Write):
    """An action on many images."""

    select: Select
    action: BulkAction


class Undo(Write):
    """Whose last action is undone or redone: the sender's, in this data set."""

    dataset: Id


class Cells(BaseModel):
    """The images that the grid shows."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Id], Field(max_length=500)]
