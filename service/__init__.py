"""The only place with side effects: data, training, checkpoints, metrics, command line."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mixdim")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0.0.0"
