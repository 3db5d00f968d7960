"""``sharding.json``: where every table lives; and the descriptions of clusters to plan for."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from service.first_fault import first_fault
from sharding.cluster import CLUSTERS, Cluster, local
from sharding.placement import Placement
from sharding.report import PlanReport
from sharding.tiling import check_placement, with_shards

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardingFile:
    """``sharding.json``: a placement, and what it costs, which is not read back."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format_version: int
    placement: Placement
    report: Mapping[str, Any] = field(default_factory=dict)


_FILE: Final = TypeAdapter(ShardingFile)
_CLUSTER: Final = TypeAdapter(Cluster)


def write_sharding(placement: Placement, path: Path, report: PlanReport | None = None) -> None:
    """Write ``sharding.json`` in one move, so that nobody reads half of it."""
    content = ShardingFile(
        format_version=FORMAT_VERSION,
        placement=placement,
        report=describe(report) if report else {},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(_FILE.dump_json(content, indent=1) + b"\n")
    draft.rename(path)


def read_sharding(path: Path) -> Placement:
    """Read ``sharding.json``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not follow the format, shards do not tile a table, or they lie where
            TorchRec does not look for them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; make it with `mixdim plan`")
    try:
        content = _FILE.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}") from error
    if content.format_version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version={content.format_version}, expected {FORMAT_VERSION}; "
            f"run mixdim plan again"
        )
    placement = content.placement
    try:
        tables = tuple(with_shards(table, placement) for table in placement.tables)
        placement = replace(placement, tables=tables)
        check_placement(placement)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return placement


def describe(report: PlanReport) -> dict[str, Any]:
    """A report as JSON: totals first, then ranks and tables."""
    return {
        "bytes": report.bytes,
        "imbalance_ratio": report.imbalance_ratio,
        "time_imbalance_ratio": report.time_imbalance_ratio,
        **asdict(report),
    }


def find_cluster(name_or_path: str, num_ranks: int | None = None) -> Cluster:
    """A cluster by name, or out of a TOML or JSON file with the fields of `Cluster`.

    Args:
        name_or_path: ``local``, another name of `CLUSTERS`, or a path.
        num_ranks: Ranks to use instead of the description's; ``local`` ranks share the memory.

    Raises:
        ValueError: If there is neither such a name nor such a file, the file is wrong, or there are
            to be no ranks.
    """
    if num_ranks is not None and num_ranks < 1:
        raise ValueError(f"--ranks {num_ranks}, expected at least 1; leave it out for all")
    if name_or_path == "local":
        return local(num_ranks or 1)
    if name_or_path in CLUSTERS:
        cluster = CLUSTERS[name_or_path]()
    else:
        cluster = _read_cluster(Path(name_or_path))
    return replace(cluster, num_ranks=num_ranks) if num_ranks else cluster


def write_cluster(cluster: Cluster, path: Path) -> None:
    """Write a cluster as TOML, every field, for `find_cluster` to read."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in asdict(cluster).items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _read_cluster(path: Path) -> Cluster:
    if not path.is_file():
        raise ValueError(
            f"{str(path)!r} is neither a cluster nor a file; clusters: {', '.join(CLUSTERS)}"
        )
    text = path.read_text()
    try:
        if path.suffix == ".toml":
            return _CLUSTER.validate_python(tomllib.loads(text))
        return _CLUSTER.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
