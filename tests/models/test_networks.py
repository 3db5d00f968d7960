"""Every network against float64 loops or another library's implementation."""

import numpy as np
import pytest
import torch
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.models import dlrm as torchrec_dlrm
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from models.deepfm import DeepFM, pairwise_interactions
from models.dlrm import DLRM
from models.embeddings.mixed import MixedEmbeddings
from models.layers.dots import PairwiseDots
from models.mf import MF
from models.networks import NETWORKS
from models.tables import Block, SizingPlan
from tests.oracles import mlp, pair_dots

WIDTHS = {"a": 8, "b": 4, "c": 8}


def embeddings_of(widths=WIDTHS, out_dim=8, rows=11):
    return MixedEmbeddings(
        SizingPlan(
            fields={
                name: (Block(num_embeddings=rows, embedding_dim=w, asked_dim=w),)
                for name, w in widths.items()
            },
            out_dim=out_dim,
        )
    )


def inputs_of(names, num_dense=5, batch=6, rows=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(rows, (len(names) * batch,), generator=generator)
    features = KeyedJaggedTensor(
        keys=list(names),
        values=values,
        lengths=torch.ones(len(names) * batch, dtype=torch.int32),
        stride=batch,
    )
    return torch.rand(batch, num_dense, generator=generator), features


def layers_of(layers):
    return [(x.weight.detach().double().numpy(), x.bias.detach().double().numpy()) for x in layers]


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    names = ("a", "b") if request.param.__name__ == "MFNetwork" else tuple(WIDTHS)
    return request.param().build(embeddings_of({n: WIDTHS[n] for n in names}), 5), names


def test_every_network_gives_one_logit_an_example(network):
    model, names = network
    for batch in (1, 6):
        dense, features = inputs_of(names, batch=batch)
        assert model(dense, features).shape == (batch,)


def test_every_weight_of_every_network_gets_a_gradient(network):
    model, names = network
    torch.manual_seed(0)
    for parameter in model.embeddings.tables.parameters():
        torch.nn.init.normal_(parameter)
    model(*inputs_of(names, batch=64)).square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_dlrm_equals_a_float64_loop():
    model = DLRM(embeddings_of(), 5, bottom=(7,), top=(9,))
    dense, features = inputs_of(WIDTHS)
    fields = model.stacked(model.embeddings(features)).detach().double().numpy()
    vector = mlp(layers_of(model.dense_vector), dense.double().numpy(), last_activation=True)
    dots = pair_dots(np.concatenate([vector[:, None], fields], axis=1))
    top = np.concatenate([vector, dots], axis=1)
    expected = mlp(layers_of(model.top), top, last_activation=False)[:, 0]
    assert np.allclose(model(dense, features).detach().numpy(), expected, atol=1e-5)


def test_dlrm_without_dense_inputs_learns_a_constant_instead():
    model = DLRM(embeddings_of(), 0)
    dense, features = inputs_of(WIDTHS, num_dense=0)
    assert model(dense, features).shape == (6,)


def test_deepfm_equals_a_float64_loop():
    model = DeepFM(embeddings_of(), 5, hidden=(7, 9))
    dense, features = inputs_of(WIDTHS)
    fields = model.stacked(model.embeddings(features)).detach().double().numpy()
    inputs = np.concatenate([fields.reshape(6, -1), dense.double().numpy()], axis=1)
    first = mlp(layers_of([model.first_order]), inputs, last_activation=False)[:, 0]
    deep = mlp(layers_of(model.deep), inputs, last_activation=False)[:, 0]
    expected = first + deep + pair_dots(fields).sum(axis=1)
    assert np.allclose(model(dense, features).detach().numpy(), expected, atol=1e-5)


def test_the_identity_of_factorization_machines_holds_on_the_golden_value():
    vectors = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]]])
    assert pairwise_interactions(vectors).item() == 7.0
    assert PairwiseDots(3)(vectors).sum().item() == 7.0


def test_mf_is_biases_and_a_dot():
    model = MF(embeddings_of({"a": 8, "b": 4}), 0)
    dense, features = inputs_of(("a", "b"), num_dense=0)
    user, item = (
        model.stacked(model.embeddings(features)).detach().double().numpy().transpose(1, 0, 2)
    )
    weight = model.biases.weight.detach().double().numpy()[0]
    bias = model.biases.bias.item()
    expected = [
        bias + weight[:8] @ u + weight[8:] @ i + u @ i for u, i in zip(user, item, strict=True)
    ]
    assert np.allclose(model(dense, features).detach().numpy(), expected, atol=1e-5)


def test_mf_names_the_way_out_when_there_are_three_fields():
    with pytest.raises(ValueError, match=r"the sizing plan has 3 \(a, b, c\); name two"):
        MF(embeddings_of(), 0)


def torchrec_twin(model, names, num_dense):
    """TorchRec's own DLRM with the weights of ours."""
    tables = [
        EmbeddingBagConfig(
            name=f"t_{name}", feature_names=[name], num_embeddings=11, embedding_dim=8
        )
        for name in names
    ]
    twin = torchrec_dlrm.DLRM(
        embedding_bag_collection=EmbeddingBagCollection(tables=tables),
        dense_in_features=num_dense,
        dense_arch_layer_sizes=[7, 8],
        over_arch_layer_sizes=[9, 1],
    )
    ours = [p for n, p in model.named_parameters() if not n.startswith("embeddings.")]
    theirs = [p for n, p in twin.named_parameters() if "embedding_bags" not in n]
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine)
        for name in names:
            twin.sparse_arch.embedding_bag_collection.embedding_bags[f"t_{name}"].weight.copy_(
                model.embeddings.tables.embedding_bags[name].weight
            )
    return twin


def test_uniform_dlrm_equals_torchrecs_own_in_forward_and_gradient():
    names = ("a", "b", "c")
    model = DLRM(embeddings_of(dict.fromkeys(names, 8)), 5, bottom=(7,), top=(9,))
    twin = torchrec_twin(model, names, 5)
    dense, features = inputs_of(names, batch=32)
    found, expected = model(dense, features), twin(dense, features).squeeze(1)
    assert torch.allclose(found, expected, atol=1e-6)
    found.square().sum().backward()
    expected.square().sum().backward()
    for name in names:
        mine = model.embeddings.tables.embedding_bags[name].weight.grad
        bags = twin.sparse_arch.embedding_bag_collection.embedding_bags
        assert torch.allclose(mine, bags[f"t_{name}"].weight.grad, atol=1e-5)
    dense_grads = [p.grad for n, p in model.named_parameters() if "embeddings" not in n]
    twin_grads = [p.grad for n, p in twin.named_parameters() if "embedding_bags" not in n]
    for mine, other in zip(dense_grads, twin_grads, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
