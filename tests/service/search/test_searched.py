"""The table of searches beside uniform, worked out by hand."""

from tests.searched import table


def record(name: str, seed: int, auc: float) -> dict[str, object]:
    return {
        **{"network": "fm", "budget": "8x", "seed": seed, "name": name, "auc": auc},
        **{"log_loss": 0.5, "training_bytes": 90.0, "budget_bytes": 100},
    }


def test_differences_are_paired_by_seed():
    records = [
        *(record("sseds", seed, auc) for seed, auc in ((0, 0.71), (1, 0.79), (2, 0.9))),
        *(record("uniform", seed, auc) for seed, auc in ((1, 0.75), (0, 0.69))),
    ]
    uniform, sseds = table(records).splitlines()[2:]
    assert uniform == "| fm | 8x | uniform | 2 | 0.7200 | 0.5000 | +0.0000 ± 0.0000 | 90.0% |"
    assert sseds == "| fm | 8x | sseds | 3 | 0.8000 | 0.5000 | +0.0300 ± 0.0141 | 90.0% |"
