"""Every search that there is.

Add one: one file with one frozen dataclass, whose ``run`` trains what it needs and ends in a plan,
and one name in `Method`. The first line of its docstring is what ``mixdim search --help`` says.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, get_args

from service.search.methods.autodim import AutoDim, AutoDimS
from service.search.methods.autoemb import AutoEmb
from service.search.methods.coded import DPQSearch, MGQESearch
from service.search.methods.hash_rows import HashSearch
from service.search.methods.nis import NIS
from service.search.methods.optembed import OptEmbed
from service.search.methods.prune import Prune
from service.search.methods.prune_regrow import PruneRegrow
from service.search.methods.quotient_remainder import QuotientRemainderSearch
from service.search.methods.random_search import RandomSearch
from service.search.methods.spectral import SpectralSearch
from service.search.methods.sseds import SSEDS

Method = (
    RandomSearch  # RaS, of the AutoDim paper
    | HashSearch  # rows shared by remainder
    | QuotientRemainderSearch  # KDD 2020
    | AutoDim  # WWW 2021
    | AutoDimS  # its ablation
    | AutoEmb  # ICDM 2021
    | NIS  # KDD 2020
    | DPQSearch  # ICML 2020
    | MGQESearch  # WWW 2020
    | Prune  # NeurIPS 2015, single weights
    | OptEmbed  # CIKM 2022
    | SSEDS  # SIGIR 2022
    | SpectralSearch  # ours
    | PruneRegrow  # ours, measured again on narrower tables
)

METHODS: Final[Mapping[str, type[Method]]] = MappingProxyType(
    {method.__dataclass_fields__["kind"].default: method for method in get_args(Method)}
)
"""Every method by the name it has on the command line."""

SERVED: Final = frozenset({"dpq", "mgqe", "prune"})
"""Methods whose budget is for what is served: they take no less to train."""
