"""Codes against loops in float64, worked numbers, and the sizes that the papers give."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.embeddings import quantizer as module
from models.embeddings.choice import Surroundings
from models.embeddings.coded import DPQChoice, MGQEChoice
from models.embeddings.dpq import DPQEmbeddings
from models.embeddings.quantizer import Quantizer, responses_of
from models.layers.batch_norm import EPSILON
from models.sizing import Uniform
from models.tables import FieldStats, Table

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "compressed.json").read_text())
GROUPS, CODES, RARE_CODES, WIDTH, FIELDS, BATCH = 2, 8, 3, 3, 2, 17


class Unnormalised(nn.Module):
    """In the place of the norm, as in the worked example."""

    def forward(self, points, keys, weights):
        return keys


def quantizer(variant="vq", **options):
    torch.manual_seed(1)
    settings = {"groups": GROUPS, "num_codes": CODES, "width": WIDTH} | options
    return Quantizer(torch.ones(FIELDS), variant=variant, **settings).double()


def oracle(own, queries, rare, weights, temperature=1.0):
    """Vectors and distances by the papers' words, one part of one query after the other."""
    counted = weights > 0
    vectors = torch.zeros_like(queries)
    distances = []
    for f in range(queries.shape[1]):
        books = [own.keys[f, min(g, own.keys.shape[1] - 1)] for g in range(GROUPS)]
        values = [own.values[f, min(g, own.keys.shape[1] - 1)] for g in range(GROUPS)]
        parts = queries[:, f].reshape(BATCH, GROUPS, WIDTH)
        raw = torch.stack(
            [
                torch.stack(
                    [
                        (parts[:, g] * key).sum(1)
                        if own.own_values is not None
                        else -(parts[:, g] - key).square().sum(1)
                        for key in books[g]
                    ],
                    dim=1,
                )
                for g in range(GROUPS)
            ],
            dim=1,
        )  # (B, G, K)
        mean = raw[counted].mean(dim=(0, 1))
        variance = raw[counted].var(dim=(0, 1), correction=0)
        responses = (raw - mean) / torch.sqrt(variance + EPSILON)
        total = 0.0
        for b in range(BATCH):
            for g in range(GROUPS):
                shown = responses[b, g].clone()
                if rare[b, f]:
                    shown[RARE_CODES:] = -math.inf
                code = int(shown.argmax())
                part, place = parts[b, g], slice(g * WIDTH, (g + 1) * WIDTH)
                value = values[g][code]
                if own.own_values is not None:
                    shares = torch.softmax(shown / temperature, dim=0)
                    onehot = torch.nn.functional.one_hot(torch.tensor(code), CODES)
                    vectors[b, f, place] = (shares - (shares - onehot).detach()) @ values[g]
                else:
                    vectors[b, f, place] = part + (value - part).detach()
                    squares = (value - part.detach()).square().sum()
                    total = total + weights[b] * squares / (GROUPS * WIDTH)
        distances.append(total if own.own_values is None else torch.zeros(()))
    return vectors, sum(distances)


@pytest.mark.parametrize("shares_groups", [False, True])
@pytest.mark.parametrize("variant", ["vq", "sx"])
def test_vectors_and_gradients_are_those_of_a_loop(variant, shares_groups, monkeypatch):
    monkeypatch.setattr(module, "CACHED_RESPONSES", 5 * GROUPS * CODES)  # four blocks
    options = {"shares_groups": shares_groups, "num_rare_codes": RARE_CODES}
    own = quantizer(variant, temperature=0.7, **options)
    queries = torch.randn(BATCH, FIELDS, GROUPS * WIDTH, dtype=torch.float64, requires_grad=True)
    rare = torch.rand(BATCH, FIELDS) < 0.5
    weights = torch.cat([torch.rand(BATCH - 3) + 0.1, torch.zeros(3)]).double()
    upstream = torch.randn(BATCH, FIELDS, GROUPS * WIDTH, dtype=torch.float64)
    upstream[-3:] = 0  # what only fills the batch up is in no loss
    inputs = [queries, *own.parameters()]
    vectors, distances = own(queries, rare, weights)
    expected = oracle(own, queries, rare, weights, 0.7)
    torch.testing.assert_close(vectors, expected[0])
    torch.testing.assert_close(distances.sum(), torch.as_tensor(expected[1]), check_dtype=False)
    got = torch.autograd.grad((vectors * upstream).sum() + distances.sum(), inputs)
    wanted = torch.autograd.grad((expected[0] * upstream).sum() + expected[1], inputs)
    for gradient, reference in zip(got, wanted, strict=True):
        torch.testing.assert_close(gradient, reference)
        assert gradient.abs().max() > 1e-6


def test_in_fp32_queries_far_from_the_origin_find_the_keys_that_they_find_in_double():
    own = quantizer("vq", num_codes=16, width=8).float()
    double = quantizer("vq", num_codes=16, width=8)
    with torch.no_grad():
        own.keys.mul_(0.01).add_(3)
        double.keys.copy_(own.keys)
    queries = 3 + 0.01 * torch.randn(2000, FIELDS, GROUPS * 8)
    assert torch.equal(own.choose(queries, None, None), double.choose(queries.double(), None, None))


def test_codes_and_vectors_of_the_worked_example():
    golden = GOLDEN["dpq_codes"]
    query = torch.tensor(golden["query"]).flatten(1)[:, None]  # (1, 1, 4)
    for variant in ("vq", "sx"):
        own = Quantizer(torch.ones(1), groups=2, num_codes=3, width=2, variant=variant)
        own.norm = Unnormalised()
        with torch.no_grad():
            own.keys.copy_(torch.tensor(golden["keys"])[None])
        assert own.choose(query, None, None)[0].tolist() == golden[f"{variant}_codes"]
        if variant == "sx":
            points = torch.cat([query.view(2, 2), torch.ones(2, 1)], dim=1)
            keys = torch.cat([own.keys[0], torch.zeros(2, 3, 1)], dim=2)
            shares = torch.softmax(responses_of(points[None], keys), dim=2)[0]
            assert shares.flatten().tolist() == pytest.approx(np.ravel(golden["sx_softmax"]))
        else:
            vectors, distances = own(query, None, None)
            assert vectors.flatten().tolist() == pytest.approx(np.ravel(golden["vq_output"]))
            assert distances.item() == pytest.approx(golden["vq_reg mean||out-sg(q)||^2"])


@pytest.mark.parametrize(("name", "ratio"), GOLDEN["dpq_cr"]["cases"].items())
def test_compression_ratios_are_the_papers(name, ratio):
    n, d, codes, groups, shared = (part.split("=")[1] for part in name.split(","))
    choice = DPQChoice(codes=int(codes), groups=int(groups), shares_groups=shared == "True")
    table = Table(name="f", field="f", num_embeddings=int(n), embedding_dim=int(d))
    assert 4 * int(n) * int(d) / choice.table_bytes(table) == pytest.approx(ratio, rel=1e-9)


def test_bits_of_two_tiers_are_the_papers():
    golden = GOLDEN["mgqe_bits"]
    table = Table(name="f", field="f", num_embeddings=10**6, embedding_dim=64)
    num_bytes = MGQEChoice(groups=4).table_bytes(table)
    assert 8 * num_bytes == golden["n=1e6,D=4,d=64"]
    assert num_bytes / (4 * 10**6 * 64) == pytest.approx(golden["ratio"])


def given(rows, dim=8, **options):
    fields = [FieldStats(name=n, num_embeddings=r, num_lookups=1) for n, r in rows.items()]
    return Surroundings(plan=Uniform(dim=dim)(fields), **options)


def features_of(**ids):
    return KeyedJaggedTensor(
        keys=list(ids),
        values=torch.tensor([i for own in ids.values() for i in own]),
        lengths=torch.ones(sum(map(len, ids.values())), dtype=torch.int32),
    )


def test_rare_ids_have_codes_of_the_tail_alone():
    choice = MGQEChoice(codes=16, tail_codes=4, head_ratio=0.25, groups=2)
    model = choice.build(given({"user": 1000, "item": 600}))
    features = features_of(user=list(range(600)), item=list(range(600)))
    model(features)
    own, seen = model.codes.quantizer, model.codes
    queries = torch.stack([model.tables(features).to_dict()[n] for n in ("user", "item")], dim=1)
    codes = own.choose(queries, seen._rare(features), None)  # (B, F, G)
    heads = {"user": 250, "item": 150}
    for number, head in enumerate(heads.values()):
        assert codes[:head, number].max() >= 4
        assert codes[head:, number].max() < 4


def test_in_evaluation_vectors_depend_on_the_id_alone():
    model = DPQChoice(codes=8, groups=4).build(given({"user": 300, "day": 3}))
    assert isinstance(model, DPQEmbeddings)
    for first in range(5):
        model(features_of(user=list(range(first, first + 64)), day=[i % 3 for i in range(64)]))
    model.eval()
    alone = model(features_of(user=[7], day=[1])).side_by_side
    together = model(features_of(user=list(range(20)), day=[1] * 20)).side_by_side
    assert torch.equal(alone[0], together[7])
    assert len({tuple(row) for row in together[:, :8].tolist()}) > 1
    assert torch.equal(together[:, 8:], model.tables.embedding_bags["day"].weight[1].expand(20, 8))


def test_lists_are_refused_by_name_and_stay_tables_where_they_are_named():
    surroundings = given({"user": 300, "tags": 300}, pooling={"tags": "sum"})
    with pytest.raises(ValueError, match=r"\['tags'\] are lists.*name them in whole_fields"):
        DPQChoice(codes=8).build(surroundings)
    model = DPQChoice(codes=8, whole_fields=("tags",)).build(surroundings)
    assert model.codes.coded_names == ["user"]


def test_codes_that_save_nothing_are_refused():
    with pytest.raises(ValueError, match="would make no table smaller"):
        DPQChoice(codes=256).build(given({"user": 100}))


@pytest.mark.parametrize("codes", [0, 1, 3, 100, 512])
def test_codes_are_whole_bits_and_fit_a_byte(codes):
    with pytest.raises(ValueError, match="expected a power of two from 2 to 256"):
        DPQChoice(codes=codes)


def test_a_width_that_is_no_multiple_of_the_groups_is_refused():
    with pytest.raises(ValueError, match="multiple of 4 and of groups=3"):
        DPQChoice(groups=3).build(given({"user": 100}))


def test_a_tail_of_no_fewer_codes_is_refused():
    with pytest.raises(ValueError, match="expected less than codes=64"):
        MGQEChoice(codes=64, tail_codes=64)
