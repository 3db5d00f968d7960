"""Tables for the tests of this folder."""

from models.tables import Table


def table(name: str, num_embeddings: int, embedding_dim: int) -> Table:
    """A table that serves a field of the same name."""
    return Table(
        name=name,
        field=name,
        num_embeddings=num_embeddings,
        embedding_dim=embedding_dim,
    )
