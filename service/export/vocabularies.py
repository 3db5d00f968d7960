"""Vocabularies and the form of raw rows: from the dataset of a run into its artifact."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from service.data.dataset import DatasetInfo, FieldInfo
from service.data.readers.base import Layout, Strings
from service.data.readers.criteo import CRITEO_FORM
from service.data.readers.roles import RAW_FILE, FieldSource, RawForm, Roles, read_raw_form
from service.serving.manifest import VOCABULARIES_FOLDER, vocabulary_file


def values_of_ids(data: Path, name: str, field: FieldInfo) -> Strings:
    """Value of every id of a field, null for the two special ones.

    Raises:
        FileNotFoundError: If the dataset has no vocabulary of it.
        ValueError: If the vocabulary is of another dataset.
    """
    path = data / "vocab" / f"{name}.parquet"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, and only vocabularies tell which id a value has; prepare the "
            f"dataset again, or copy its vocab folder there"
        )
    values = pq.read_table(path, columns=["value"])["value"].combine_chunks()
    if len(values) != field.stats.num_embeddings:
        raise ValueError(
            f"{path} has {len(values):,} values, the dataset's field {name!r} "
            f"{field.stats.num_embeddings:,}; copy the vocabulary that was prepared with it"
        )
    return values.cast(pa.large_string())


def write_vocabularies(data: Path, fields: Sequence[FieldInfo], folder: Path) -> None:
    """Write the values of all fields, without how often they were seen."""
    (folder / VOCABULARIES_FOLDER).mkdir()
    for field in fields:
        values = values_of_ids(data, field.stats.name, field)
        path = folder / vocabulary_file(field.stats.name)
        pq.write_table(pa.table({"value": values}), path, compression="zstd", use_dictionary=False)


def write_raw_form(data: Path, info: DatasetInfo, names: Sequence[str], folder: Path) -> None:
    """Write what raw rows look like, with the fields that are served."""
    form = raw_form(data, info)
    fields = {name: form.roles.fields[name] for name in names}
    layout = replace(form.roles.layout, fields={n: form.roles.layout.fields[n] for n in names})
    served = replace(form, roles=replace(form.roles, layout=layout, fields=fields))
    (folder / RAW_FILE).write_text(served.attachment()[RAW_FILE])


def raw_form(data: Path, info: DatasetInfo) -> RawForm:
    """What raw rows of a dataset look like.

    Datasets of versions that did not write it down have it by their source, or take every field
    from the column of its name, derived already, and lists as lists.
    """
    if (data / RAW_FILE).is_file():
        return read_raw_form(data)
    if info.source in {"criteo", "synthetic"}:
        return CRITEO_FORM
    names = [field.stats.name for field in info.fields]
    layout = Layout(
        task=info.task,
        dense={column.name: column.transform for column in info.dense},
        fields={field.stats.name: field.is_list for field in info.fields},
    )
    roles = Roles(
        layout=layout, label="label", fields={name: FieldSource(column=name) for name in names}
    )
    return RawForm(roles=roles)
