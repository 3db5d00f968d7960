"""Every form of raw logs that ``prepare`` reads: add a source with one file and one name here."""

from typing import Annotated

import tyro

from service.data.readers.avazu import Avazu
from service.data.readers.criteo import Criteo
from service.data.readers.movielens import Movielens
from service.data.readers.synthetic import Synthetic
from service.data.readers.table import OwnTable

Source = (
    Criteo
    | Avazu
    | Movielens
    | Annotated[OwnTable, tyro.conf.subcommand(name=OwnTable.name)]
    | Synthetic
)
