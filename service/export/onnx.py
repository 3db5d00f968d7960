"""The program for ONNX runtimes: the same inputs, lookups included in neither."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.onnx.errors import UnsupportedOperatorError

from service.serving.manifest import ONNX_FILE

logger = logging.getLogger(__name__)


def write_onnx(program: ExportedProgram, folder: Path) -> None:
    """Write ``model.onnx``.

    Raises:
        ValueError: If the extra is not installed, or an operator has no counterpart.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise ValueError(
            f"--onnx needs {' and '.join(missing)}; install the extra: pip install 'mixdim[onnx]'"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        try:
            exported = torch.onnx.export(program, verbose=False)
        except UnsupportedOperatorError as error:
            raise ValueError(
                f"ONNX has no operator for one of the program's: {error}; leave --onnx out, "
                f"program.pt2 runs wherever torch does"
            ) from error
    assert exported is not None
    exported.save(str(folder / ONNX_FILE))
