"""Ingest by DuckDB: a table of the raw text, a table of ranked values a field, one join of all."""

import duckdb

from service.bench.peers.ingest_task import DENSE, FIELDS, LABEL, ROWS_FILE, IngestTask, take_part

RANKED = """
CREATE TABLE values_of_{name} AS
SELECT value, count, (row_number() OVER (ORDER BY count DESC, value) - 1)::INTEGER AS id
FROM (SELECT {name} AS value, count(*) AS count FROM raw WHERE {name} IS NOT NULL GROUP BY {name})
WHERE count >= {min_count};
COPY (SELECT value, count FROM values_of_{name} ORDER BY id)
TO '{output}/{name}.parquet' (FORMAT parquet);
"""
NUMBER = """
coalesce(ln(1 + CASE WHEN {name} < 0 THEN 0 ELSE {name} END), -1)::FLOAT AS {name}
"""
IDS = """
coalesce(values_of_{name}.id, CASE WHEN raw.{name} IS NULL THEN {size} ELSE {size} + 1 END)::INTEGER
AS {name}
"""


def ingest(task: IngestTask) -> None:
    """Read, count, join, write."""
    database = duckdb.connect(config={"threads": task.threads})
    types = {
        LABEL: "UTINYINT",
        **dict.fromkeys(DENSE, "BIGINT"),
        **dict.fromkeys(FIELDS, "VARCHAR"),
    }
    database.execute(
        "CREATE TABLE raw AS SELECT * FROM read_csv(?, delim='\t', header=false, quote='', "
        f"escape='', nullstr='', auto_detect=false, columns={types})",
        [str(task.raw)],
    )
    sizes = {}
    for name in FIELDS:
        ranked = RANKED.format(name=name, min_count=task.min_count, output=task.output)
        database.execute(ranked)
        sizes[name] = database.table(f"values_of_{name}").shape[0]
    numbers = [NUMBER.format(name=name) for name in DENSE]
    ids = [IDS.format(name=name, size=size) for name, size in sizes.items()]
    joins = [
        f"LEFT JOIN values_of_{name} ON raw.{name} = values_of_{name}.value" for name in FIELDS
    ]
    database.execute(
        f"COPY (SELECT {LABEL}::FLOAT AS {LABEL}, {', '.join(numbers + ids)} FROM raw "
        f"{' '.join(joins)}) TO '{task.output / ROWS_FILE}' "
        "(FORMAT parquet, COMPRESSION uncompressed)"
    )


if __name__ == "__main__":
    take_part(ingest, ("duckdb",))
