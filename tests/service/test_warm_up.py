"""Reading the vectors of a finished run."""

import numpy as np

from models.networks import MFNetwork
from service.spectral import measure_spectra, runs_of
from service.warm_up import WarmUp
from tests.service.test_spectral import DIM, model_of
from tests.service.warm_runs import make_config, make_data, trained


def test_a_warm_up_that_pads_narrow_blocks_can_be_measured(tmp_path):
    make_data(tmp_path / "data", rating=True)
    pair = {"C1": [(10, 2, 0), (30, DIM, 0)], "C3": [(300, 4, 0)]}
    config = make_config(tmp_path, "padded", pair, DIM, network=MFNetwork(biases="none"))
    trained(config)
    run, rows = WarmUp(config.output), model_of(config).tables["C1/0"]
    read = np.concatenate([part for _, part in run.pieces("C1", 0, 10)])
    assert np.array_equal(read, np.pad(rows, ((0, 0), (0, DIM - 2))))
    found = measure_spectra(run, tmp_path / "data", runs_of({"C1": [0, 40], "C3": [0, 300]}))
    assert [len(found[name]) for name in ("C1", "C3")] == [DIM, DIM]
