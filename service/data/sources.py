"""Every form of raw logs that ``prepare`` reads: add a source with one file and one name here."""

from typing import Annotated

import tyro

from service.data.avazu import Avazu
from service.data.criteo import Criteo
from service.data.movielens import Movielens
from service.data.synthetic import Synthetic
from service.data.table import OwnTable

Source = (
    Criteo
    | Avazu
    | Movielens
    | Annotated[OwnTable, tyro.conf.subcommand(name=OwnTable.name)]
    | Synthetic
)
