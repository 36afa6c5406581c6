"""Base of sources whose examples have neither groups nor metadata."""

from typing import Any


class PlainSource:
    """A source of which subclasses define the rest of `imgcls.data.sources.source.Source`."""

    def group(self, index: int) -> str | None:
        return None

    def metadata(self, index: int) -> dict[str, Any]:
        return {}
