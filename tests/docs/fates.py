"""Commands that no walk runs: what runs them instead, or why nothing of ours can."""

from collections.abc import Mapping

ON_SLURM = r"^(mixdim submit|torchx run) --scheduler slurm |^mixdim serve .*slurm"
ELSEWHERE: Mapping[str, str] = {
    r"^make test$": "make test",
    r"^make demo$": "tests/docs/test_walks.py::test_the_demo_ends_in_the_table_of_the_first_page",
    r"^make setup( TORCH_INDEX=.*)?$": "make test",
    r"^python3 -m venv \.venv$|^\.venv/bin/pip install": (
        "tests/docs/test_walks.py::test_without_make_the_same_is_installed"
    ),
    r"^mixdim (size|explain) .*\blog(arithm)?\b": (
        "tests/docs/test_add_a_scheme.py::test_the_command_line_sizes_and_explains_by_it"
    ),
    r"^\.venv/bin/python -m pytest .* logarithm": (
        "tests/docs/test_add_a_scheme.py::test_the_contract_asks_it"
    ),
    r"^docker build -f docker/Dockerfile -t (registry\.example/)?mixdim(:1)? \.$": (
        "make test-image"
    ),
    ON_SLURM: "tests/slurm/test_slurm.py::test_what_the_pages_type_for_slurm_runs_on_it",
}
"""Lines, and the target or the test that continuous integration runs them by."""

NOT_HERE: Mapping[str, str] = {
    r"BACKEND=cuda": "CUDA's wheels are gigabytes, and nothing of ours has a GPU to use them",
    r"^make locks": "asks the package index for every version, and changes the locks",
    r"^docker buildx imagetools": "a registry",
    r"^docker build .* DIGEST=": "a registry that knows the digest",
    r"^docker push": "a registry",
    r"^docker build .* --target service": (
        "a Docker engine; `make test-image` builds what it is made of, and runs its health check"
    ),
    r"^(\w+=\S+ )?docker compose (?!.* exec )": "a Docker engine, and images of others",
}
"""Lines, and what they need that continuous integration does not have."""
