"""From ids to one vector a field: the modules behind `FieldEmbeddings`."""
