"""The base of everything that is stored or configured, and the words that all rooms share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

Task = Literal["regression", "binary_classification", "multiclass_classification"]
Classes = tuple[bool | int | float | str, ...]
MODEL_NAME = r"^[a-z][a-z0-9_]{0,62}$"


class Value(BaseModel):
    """An immutable value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Value):
    """A value that is stored in a folder, as the JSON file `FILE`."""

    FILE: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The document in `folder`.

        Raises:
            DataError: it is damaged, or of another kind.
        """
        try:
            return cls.model_validate_json((folder / cls.FILE).read_bytes())
        except ValidationError as error:
            raise DataError(
                f"no {cls.__name__}: {error.errors()[0]['msg']}",
                where=str(folder / cls.FILE),
                remedy="delete the snapshot and materialize it again",
            ) from error

    def write(self, folder: Path) -> None:
        """Write the document into `folder`."""
        (folder / self.FILE).write_text(self.model_dump_json(indent=1))
