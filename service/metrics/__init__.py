"""Every Prometheus metric of the product, declared once, and the exporter that serves them.

`train` and `embeddings` have those of the ranks (``mixdim_*``), `service` those of ``mixdim serve``
(``mixdim_service_*``). Each process has a registry of its own, each rank a port of its own:
client_python's multiprocess mode loses gauges' functions and half of the types.
docs/monitoring.md says what to look at; nothing here needs torch.
"""

from service.metrics.embeddings import EmbeddingMetrics
from service.metrics.exporter import PORT_TAKEN, Exporter, start_exporter
from service.metrics.service import JobCounts, ServiceMetrics
from service.metrics.train import SCORES, TrainMetrics, peak_memory_bytes

__all__ = [
    "PORT_TAKEN",
    "SCORES",
    "EmbeddingMetrics",
    "Exporter",
    "JobCounts",
    "ServiceMetrics",
    "TrainMetrics",
    "peak_memory_bytes",
    "start_exporter",
]
