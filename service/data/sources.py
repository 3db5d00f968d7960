"""Every form of raw logs that ``prepare`` reads: add a source with one file and one name here."""

from service.data.criteo import Criteo
from service.data.synthetic import Synthetic

Source = Criteo | Synthetic
