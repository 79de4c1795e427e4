"""The rows of a model version in the inference logs of some days: counted in the cells of its reference, by streaming.

Requests to a candidate are copies or proofs, and rows of other versions have references of their own; neither counts.
"""

from __future__ import annotations

import glob
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.data.machine import cores, memory_limit_mib
from mlops_assets.ml.data.sources import cause_of, identifier, out_of_memory, quoted, session
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.inference.log_columns import DIGEST, INPUT
from mlops_assets.ml.monitoring.column_profile import CategoryTally, NumberProfile, NumberTally
from mlops_assets.ml.monitoring.reference_profile import BATCH_ROWS, PREDICTION, SCORE, as_float32
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    from mlops_assets.ml.monitoring.column_profile import ColumnProfile
    from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile

LABELLED_ROWS = 1_000_000
TEXT, PROBABILITIES = "VARCHAR", '"output:probabilities"'


class Answerer(Value):
    """The version that answered last, how many rows of the window are its own, and how many others' there are."""

    version: str
    rows: int
    other_rows: int


class LogWindow:
    """The tables of some days, as `compact` writes them, while a DuckDB session is open on them; see `open_window`."""

    def __init__(self, connection: Any, tables: Sequence[Path]) -> None:
        files = ", ".join(quoted(glob.escape(str(table))) for table in tables)
        connection.execute(
            "CREATE TEMP VIEW answered AS "
            f"SELECT * FROM read_parquet([{files}], union_by_name = true) WHERE role = 'champion'"
        )
        self.connection = connection
        described = connection.execute("DESCRIBE answered").fetchall()
        # As DuckDB does, which makes one column of those whose names differ in case only
        self.types: dict[str, str] = {row[0].casefold(): row[1] for row in described}

    def answerer(self) -> Answerer | None:
        """Whose rows the window is about; None where nobody answered."""
        versions = self.connection.execute(
            "SELECT version, count(*) FROM answered GROUP BY version ORDER BY max(time) DESC, version DESC"
        ).fetchall()
        if not versions:
            return None
        (version, rows), *others = versions
        return Answerer(version=version, rows=rows, other_rows=sum(count for _, count in others))

    def profiles(
        self, version: str, reference: ReferenceProfile, left_out: Collection[str] = ()
    ) -> tuple[dict[str, ColumnProfile], dict[str, ColumnProfile], dict[str, str]]:
        """Profiles of inputs and of answers, and why an input has none, all by column.

        A column of `left_out` of which the version has no value counts as one that the log does not keep, though it has
        values of other versions.
        """
        skipped = self._skipped(version, reference, left_out)
        features = {name: column for name, column in reference.features.items() if name not in skipped}
        sources = {f"input:{name}": (self._input(name, column), column) for name, column in features.items()}
        answers = {
            f"output:{name}": (_answer(name, reference), column) for name, column in reference.predictions.items()
        }
        found = self._tally(version, sources | answers)
        inputs = {name: found[f"input:{name}"] for name in features}
        return inputs, {name: found[f"output:{name}"] for name in reference.predictions}, skipped

    def sample(self, answerer: Answerer, columns: Sequence[str], reference: ReferenceProfile, rows: int) -> Any:
        """About so many rows of a version in the order of time, as pandas: these inputs, and the answers."""
        sources = {name: self._input(name, reference.features[name]) for name in columns}
        sources |= {f"output:{name}": _answer(name, reference) for name in reference.predictions}
        selected = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in sources.items())
        chosen = f"hash(request_id, row) % {_step(answerer.rows, rows)} = 0"
        return self.connection.execute(
            f"SELECT {selected} FROM {_rows(answerer.version)} WHERE {chosen} ORDER BY time, request_id, row"
        ).df()

    def truths(self, version: str, reference: ReferenceProfile) -> tuple[int, Any]:
        """How many labels of a version have come, and label and answer of about a million at most, as pyarrow."""
        rows = _rows(version)
        (labelled,) = self.connection.execute(f"SELECT count(label) FROM {rows}").fetchone()
        answer = identifier(f"output:{PREDICTION}") if reference.labels is None else PROBABILITIES
        chosen = f"hash(request_id, row) % {_step(labelled, LABELLED_ROWS)} = 0"
        found = f"SELECT label, {answer} AS answer FROM {rows} WHERE label IS NOT NULL AND {chosen}"
        return labelled, self.connection.execute(f"{found} ORDER BY time, request_id, row").to_arrow_table()

    def label_delay_s(self, version: str) -> float | None:
        """From answer to label, about the median of a version's labels; None where none has come."""
        delays = "approx_quantile(epoch(label_time) - epoch(time), 0.5)"
        (delay,) = self.connection.execute(f"SELECT {delays} FROM {_rows(version)} WHERE label IS NOT NULL").fetchone()
        return delay

    def _skipped(self, version: str, reference: ReferenceProfile, left_out: Collection[str]) -> dict[str, str]:
        """Why columns are not compared."""
        counts = self._counts(version, reference)
        found = dict[str, str]()
        for name, column in reference.features.items():
            kept, values, digests = counts[name]
            if digests or (kept and not values):
                found[name] = "the log has digests of it (deploy.inference_log.hash)"
            elif self._type(INPUT, name) is None or (not kept and name in left_out):
                found[name] = "it is not in the log (deploy.inference_log.leave_out)"
            elif not column.rows:
                found[name] = "the training data have no value of it"
        return found

    def _counts(self, version: str, reference: ReferenceProfile) -> dict[str, tuple[int, int, int]]:
        """How many values of each column the version's rows have, how many of its type, and how many digests."""
        counted = list[str]()
        for name, column in reference.features.items():
            sources = [identifier(f"{INPUT}{name}"), self._input(name, column), identifier(f"{DIGEST}{name}")]
            known = [self._type(kind, name) for kind in (INPUT, INPUT, DIGEST)]
            counted += [f"count({source if there else 'NULL'})" for source, there in zip(sources, known, strict=True)]
        row = self.connection.execute(f"SELECT {', '.join(counted)} FROM {_rows(version)}").fetchone()
        places = zip(reference.features, range(0, len(row), 3), strict=True)
        return {name: row[place : place + 3] for name, place in places}

    def _type(self, kind: str, name: str) -> str | None:
        return self.types.get(f"{kind}{name}".casefold())

    def _input(self, name: str, column: ColumnProfile) -> str:
        """The SQL of a column's values; where another version had texts of this name, numbers are texts too."""
        source = identifier(f"{INPUT}{name}")
        is_number = isinstance(column, NumberProfile)
        if is_number == (self._type(INPUT, name) == TEXT):
            return f"TRY_CAST({source} AS {'FLOAT' if is_number else TEXT})"
        return source

    def _tally(self, version: str, sources: Mapping[str, tuple[str, ColumnProfile]]) -> dict[str, ColumnProfile]:
        tallies: dict[str, NumberTally | CategoryTally] = {
            name: NumberTally(np.array(column.edges, np.float32))
            if isinstance(column, NumberProfile)
            else CategoryTally(column.names)
            for name, (_, column) in sources.items()
        }
        selected = ", ".join(f"{sql} AS {identifier(name)}" for name, (sql, _) in sources.items())
        found = self.connection.execute(f"SELECT {selected} FROM {_rows(version)}")
        for batch in found.to_arrow_reader(BATCH_ROWS):
            for name, tally in tallies.items():
                values = batch.column(name)
                tally.add(as_float32(values) if isinstance(tally, NumberTally) else values)
        return {name: tally.profile() for name, tally in tallies.items()}


@contextmanager
def open_window(tables: Sequence[Path]) -> Generator[LogWindow]:
    """The window of some days, in bounded memory.

    Raises:
        DataError: a table cannot be read.
    """
    import duckdb

    with tempfile.TemporaryDirectory() as scratch:
        connection = session({table.parent for table in tables}, Path(scratch), memory_limit_mib(), cores())
        try:
            yield LogWindow(connection, tables)
        except duckdb.OutOfMemoryException as error:
            raise out_of_memory(error) from error
        except duckdb.Error as error:
            what = f"The inference log cannot be read ({cause_of(error)})"
            raise DataError(what, remedy="materialize inference_log of the days of the window again") from error
        finally:
            connection.close()


def _rows(version: str) -> str:
    return f"(SELECT * FROM answered WHERE version = {quoted(version)})"


def _step(rows: int, wanted: int) -> int:
    return max(1, -(-rows // wanted))


def _answer(name: str, reference: ReferenceProfile) -> str:
    """The SQL of an answer, as `score_of` has it."""
    if name == SCORE:
        assert reference.labels is not None
        return f"list_extract({PROBABILITIES}, 2)" if len(reference.labels) == 2 else f"list_max({PROBABILITIES})"
    return identifier(f"output:{name}")
