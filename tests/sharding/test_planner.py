"""TorchRec's form of a placement fits the model it was made for, and no other."""

import pytest
import torch
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

from models.tables import PlanError
from sharding.cluster import Cluster
from sharding.constraints import ShardingConfig
from sharding.planner import place_module, plan_module, to_plan

CLUSTER = Cluster(num_ranks=2, ranks_per_host=2, ddr_bytes=1_000_000, reserve_ratio=0)
CONFIG = ShardingConfig(
    tables={"rows": "row_wise", "columns": "column_wise", "copies": "data_parallel"}
)


def configs(**shapes: tuple[int, int]) -> list[EmbeddingBagConfig]:
    return [
        EmbeddingBagConfig(name=name, feature_names=[name], num_embeddings=n, embedding_dim=d)
        for name, (n, d) in shapes.items()
    ]


ALL = configs(whole=(7, 4), rows=(11, 8), columns=(5, 16), copies=(3, 4))


def model(tables: list[EmbeddingBagConfig]) -> nn.Module:
    collection = EmbeddingBagCollection(tables=tables, device=torch.device("meta"))
    return nn.ModuleDict({"embeddings": collection, "dense": nn.Linear(10, 10)})


def test_plans_name_the_module_and_every_shard() -> None:
    plan = plan_module(model(ALL), CLUSTER, 8, CONFIG).plan["embeddings"]
    shards = {
        name: [
            (str(shard.placement), shard.shard_sizes, shard.shard_offsets)
            for shard in parameter.sharding_spec.shards
        ]
        for name, parameter in plan.items()
        if parameter.sharding_spec
    }
    assert shards["rows"] == [("rank:0/cpu", [6, 8], [0, 0]), ("rank:1/cpu", [5, 8], [6, 0])]
    assert [shard[1:] for shard in shards["columns"]] == [([5, 8], [0, 0]), ([5, 8], [0, 8])]
    assert {shard[0] for shard in shards["columns"]} == {"rank:0/cpu", "rank:1/cpu"}
    assert plan["copies"].sharding_spec is None
    assert (plan["copies"].compute_kernel, plan["copies"].ranks) == ("dense", [0, 1])


def test_gpus_of_every_host_are_numbered_from_zero() -> None:
    cluster = Cluster(num_ranks=4, ranks_per_host=2, device="cuda", hbm_bytes=1_000_000)
    config = ShardingConfig(types=("row_wise",))
    plan = plan_module(model(configs(a=(8, 4))), cluster, 8, config).plan["embeddings"]
    devices = [str(shard.placement) for shard in plan["a"].sharding_spec.shards]
    assert devices == ["rank:0/cuda:0", "rank:1/cuda:1", "rank:2/cuda:0", "rank:3/cuda:1"]


def test_the_dense_part_of_the_model_takes_room() -> None:
    dense = nn.Linear(400, 400, bias=False)  # 160,000 weights x 16 bytes
    with pytest.raises(PlanError):
        place_module(nn.ModuleList([model(ALL), dense]), CLUSTER, 8, CONFIG)


def test_a_model_with_another_table_is_refused() -> None:
    placement = place_module(model(ALL), CLUSTER, 8, CONFIG)
    with pytest.raises(ValueError, match="does not place table 'new'"):
        to_plan(placement, model([*ALL, *configs(new=(3, 4))]))


def test_a_model_without_a_placed_table_is_refused() -> None:
    placement = place_module(model(ALL), CLUSTER, 8, CONFIG)
    with pytest.raises(ValueError, match=r"the model has no tables \['copies'\]"):
        to_plan(placement, model(ALL[:-1]))


def test_a_table_of_another_shape_is_refused() -> None:
    placement = place_module(model(ALL), CLUSTER, 8, CONFIG)
    changed = [*configs(whole=(7, 8)), *ALL[1:]]
    with pytest.raises(ValueError, match="'whole': placed as 7 x 4, but the model's is 7 x 8"):
        to_plan(placement, model(changed))
