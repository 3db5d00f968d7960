"""The model card: what a person should know before they send traffic to a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from service.config import TrainConfig
from service.data.dataset import DatasetInfo
from service.serving.manifest import (
    CARD_FILE,
    CODES_FOLDER,
    PROGRAM_FILE,
    TABLES_FOLDER,
    VOCABULARIES_FOLDER,
    Manifest,
)

PREDICTS = {"click": "the probability of a click", "rating": "a rating"}


def write_card(manifest: Manifest, config: TrainConfig, info: DatasetInfo, folder: Path) -> None:
    """Write ``MODEL_CARD.md``."""
    sections = (
        _what(manifest),
        _scores(manifest),
        _data(manifest, info),
        _training(manifest, config),
        _sizes(manifest),
        _inputs(manifest),
        _limits(manifest, info),
    )
    (folder / CARD_FILE).write_text("\n".join("\n".join(lines) + "\n" for lines in sections))


def _what(manifest: Manifest) -> Iterator[str]:
    origin = manifest.origin
    yield f"# {manifest.name}"
    yield ""
    yield (
        f"Predicts {PREDICTS[manifest.task]} of a raw row. Network `{origin.network}`, embeddings "
        f"`{origin.embeddings}`, tables in {manifest.dtype}, projections {manifest.projections}; "
        f"checkpoint `{origin.checkpoint}` of run `{origin.run}`, exported {manifest.created}."
    )


def _scores(manifest: Manifest) -> Iterator[str]:
    gate = manifest.gate
    yield f"## Scores on the {gate.split} split ({gate.num_rows:,} rows)"
    yield ""
    yield "| score | run | artifact | gap | let through up to |"
    yield "|---|---:|---:|---:|---:|"
    for name, of_run in gate.run.items():
        of_artifact = gate.artifact.get(name)
        if name == "num_rows" or of_run is None or of_artifact is None:
            continue
        tolerance = gate.tolerances.get(name)
        limit = "" if tolerance is None else f"{tolerance:g}"
        gap = of_artifact - of_run
        yield f"| {name} | {of_run:.6f} | {of_artifact:.6f} | {gap:+.6f} | {limit} |"
    yield ""
    yield (
        "The artifact was scored through its own vocabularies and transforms, on the values that "
        "the split's ids stand for."
    )


def _data(manifest: Manifest, info: DatasetInfo) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield (
        f"Source `{info.source}`, {info.num_rows:,} rows, {info.num_rejects:,} rejected, prepared "
        f"{info.provenance.created}; content SHA-256 `{manifest.origin.data_sha256}`."
    )
    yield ""
    yield "| split | rows | mean label |"
    yield "|---|---:|---:|"
    for name, split in info.splits.items():
        yield f"| {name} | {split.num_rows:,} | {split.label_mean:.4f} |"


def _training(manifest: Manifest, config: TrainConfig) -> Iterator[str]:
    optimizer = config.optimizer
    yield "## Training"
    yield ""
    yield (
        f"Batches of {config.batch_size:,} a rank, at most {config.epochs} epochs, seed "
        f"{config.seed}; tables by {optimizer.sparse} at {optimizer.sparse_lr:g}, layers by Adam "
        f"at {optimizer.dense_lr:g}; arithmetic {config.precision}; l2 {config.l2:g}."
    )
    yield ""
    yield f"Versions at export: {_listed(manifest.origin.versions)}."


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _sizes(manifest: Manifest) -> Iterator[str]:
    parts = {
        "tables": manifest.num_bytes(TABLES_FOLDER, CODES_FOLDER),
        "program": manifest.num_bytes(PROGRAM_FILE),
        "vocabularies": manifest.num_bytes(VOCABULARIES_FOLDER),
    }
    yield "## Sizes"
    yield ""
    yield "| part | bytes |"
    yield "|---|---:|"
    for name, num_bytes in parts.items():
        yield f"| {name} | {num_bytes:,} |"


def _inputs(manifest: Manifest) -> Iterator[str]:
    widths: dict[str, list[str]] = {}
    for table in manifest.tables:
        shape = f"{table.num_embeddings:,} x {table.embedding_dim}"
        widths.setdefault(table.field, []).append(shape)
    yield "## Fields"
    yield ""
    yield f"{manifest.num_dense} dense columns, and:"
    yield ""
    yield "| field | values | rows x width of its tables | list |"
    yield "|---|---:|---|---|"
    for field in manifest.fields:
        shown = " + ".join(widths[field.name])
        pooled = ("mean" if field.is_mean else "sum") if field.is_list else ""
        name = field.name.replace("|", "\\|")
        yield f"| {name} | {field.num_ids:,} | {shown} | {pooled} |"


def _limits(manifest: Manifest, info: DatasetInfo) -> Iterator[str]:
    coverage = {field.stats.name: field.stats.coverage_ratio for field in info.fields}
    least = min(manifest.fields, key=lambda field: coverage[field.name])
    yield "## Limits"
    yield ""
    yield (
        "- Values that training has not seen often enough share one vector a field; in training "
        f"`{least.name}` had most of them, {1 - coverage[least.name]:.2%} of its lookups. Watch "
        "`mixdim_serving_unknown_values_total`."
    )
    if manifest.task == "click":
        mean = info.splits["train"].label_mean
        yield (
            f"- Probabilities are calibrated to a click ratio of {mean:.4f}, that of the training "
            "split; where clicks were sampled, or their ratio has moved, correct them."
        )
    else:
        yield "- Ratings are those of the training split's scale."
    yield "- The scores above are of one split of one dataset; they do not say how scores will age."
    if manifest.dtype != "fp32":
        yield f"- Weights of tables are rounded to {manifest.dtype}; everything else is fp32."
