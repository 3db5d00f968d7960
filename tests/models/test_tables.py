"""Names that tables can have."""

import pytest
from torch import nn

from models.sizing import Uniform
from models.tables import FieldStats, check_field_name

ATTRIBUTES = [name for name in dir(nn.ModuleDict()) if not name.startswith("_")]


@pytest.mark.parametrize("name", ["", "user.id", *ATTRIBUTES])
def test_names_that_torch_refuses_are_refused_before_anything_is_built(name: str) -> None:
    with pytest.raises(KeyError):
        nn.ModuleDict({name: nn.Identity()})
    with pytest.raises(ValueError, match="rename the column, for example to "):
        check_field_name(name)


def test_names_that_torchrec_cuts_are_refused() -> None:
    # The mean of a list was looked for under the name before the @: a KeyError, or another's mean.
    with pytest.raises(ValueError, match="cuts it at the @; rename the column, for example to a_b"):
        check_field_name("a@b")


@pytest.mark.parametrize("name", ["types", "user_id", "größe", "a b", "#1", "weight"])
def test_names_that_torch_takes_are_sized(name: str) -> None:
    nn.ModuleDict({name: nn.Identity()})
    stats = FieldStats(name=name, num_embeddings=3, num_lookups=3)
    assert Uniform()([stats]).dims() == {name: 16}


def test_a_scheme_says_which_name_is_in_the_way() -> None:
    stats = FieldStats(name="type", num_embeddings=3, num_lookups=3)
    with pytest.raises(ValueError, match=r"field 'type': .* for example to type_id"):
        Uniform()([stats])
