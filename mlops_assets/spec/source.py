"""Where rows come from: the types of the YAML's `source`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mlops_assets.ml.data.contract import CsvDialect
from mlops_assets.ml.data.windows import window
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.import_paths import ImportPath
from mlops_assets.ml.values import Value, problem
from resources.lake.stores import STORES, scheme_of

SOURCE_SUFFIXES = (".parquet", ".csv", ".csv.gz")


class SourceObjects(Value):
    """Objects that hold rows, in one format."""

    uri: str = Field(
        description="Objects to read: s3://bucket/prefix/*.parquet, /folder/*.csv, or relative to the lake"
    )
    csv: CsvDialect = Field(default=CsvDialect(), description="How CSV files are written")
    example: ImportPath | None = Field(
        default=None, description="A function that writes example objects into a folder when the uri holds none"
    )

    @model_validator(mode="after")
    def _objects_fit(self) -> Self:
        if not self.uri.endswith(SOURCE_SUFFIXES):
            raise problem("uri", f"the objects must end with one of {', '.join(SOURCE_SUFFIXES)}; end the uri so")
        if self.csv != CsvDialect() and self.uri.endswith(".parquet"):
            raise problem("csv", "Parquet has no dialect; remove it")
        scheme = scheme_of(self.uri)
        if scheme not in STORES:
            known = ", ".join(f"{name}://" for name in sorted(STORES) if name)
            raise problem("uri", f"{scheme}:// is not supported; use {known} or a path relative to the lake")
        if self.example and ("://" in self.uri or self.uri.startswith("/")):
            raise problem("example", "an example is written into the lake only; make its uri relative, or remove it")
        return self


class Source(SourceObjects):
    """Where the raw data lies."""

    event_time: str | None = Field(default=None, description="Column with the time of a row")
    partition_by: Literal["none", "day", "month"] = Field(
        default="none", description="Time partitions, by event_time, for training windows and backfills"
    )
    start: str | None = Field(
        default=None, description="First partition, such as 2013-01 or 2013-01-31; makes a job that can be backfilled"
    )
    window: int | None = Field(default=None, ge=1, description="Train on this many partitions, up to the last one")

    @model_validator(mode="after")
    def _partitions_fit(self) -> Self:
        if self.partition_by != "none" and not self.event_time:
            raise problem("partition_by", f"partitions by {self.partition_by} need source.event_time; name the column")
        for field in ("start", "window"):
            if getattr(self, field) is not None and self.partition_by == "none":
                raise problem(field, f"a {field} is about partitions; set source.partition_by to day or month")
        if self.start is not None and self.partition_by != "none":
            try:
                window(self.start, self.partition_by, None)
            except DataError as error:
                raise problem("start", str(error)) from None
        return self
