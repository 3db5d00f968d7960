"""Where log lines go: ours to stderr as they are, of the libraries only what worries them."""

import logging
import warnings

OURS = ("service", "sharding", "models")


def configure_logs() -> None:
    """Set up logging of this process; the command and every rank call it once."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    # TorchRec and FBGEMM set their own loggers to INFO and describe every kernel they make.
    # torch sets its own level when it is imported after this, but leaves those of its modules.
    for name in ("torchrec", "fbgemm_gpu", "torch", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="torch|fbgemm")
