"""A job as plain Kubernetes objects: an indexed Job, with neither Volcano nor an operator.

`manifest` describes one verb of the command line; ``service/`` beside it holds the service's own
objects for kustomize, ``training/`` a training's.
"""

from deploy.kubernetes.manifest import manifest, to_yaml

__all__ = ["manifest", "to_yaml"]
