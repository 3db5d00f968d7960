"""What Prometheus and Grafana are told to ask for, and what there is to ask for."""

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from service.metrics import EmbeddingMetrics, JobCounts, ServiceMetrics, TrainMetrics
from service.metrics.serving import ServingMetrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
METRIC = re.compile(r"\bmixdim_\w+|\bmixdim:[\w:]+")


def declared_names() -> set[str]:
    """Names that a query may use: of the samples, not of the families, and those of rules."""
    registry = CollectorRegistry()
    metrics = TrainMetrics(registry)
    metrics.table_bytes.labels("C1", "0")
    metrics.lookups.labels("C1")
    metrics.unknown_ids.labels("C1")
    metrics.set_scores("test", {"auc": 1, "log_loss": 0, "ne": 0, "calibration": 1, "rmse": 0})
    embeddings = EmbeddingMetrics(registry)
    embeddings.rows.labels("C1")
    figures = ("touched", "moved", "norm", "rank", "saturation")
    embeddings.set_table("C1", dict.fromkeys(figures, 1.0))
    embeddings.set_slice("test", "C1", "head", 0.5, 10)
    embeddings.set_unknown("test", "C1", 0.5)
    service = ServiceMetrics(registry)
    service.requests.labels("GET", "/", "200")
    service.request_seconds.labels("/")
    registry.register(JobCounts(lambda: {"queued": 0}))
    serving = ServingMetrics(registry, ("C1",))
    serving.request_seconds.labels("200")
    serving.show_model(name="a", version="1", dtype="fp32", at=0)
    names = {sample.name for family in registry.collect() for sample in family.samples}
    return names | {rule["record"] for rule in rules() if "record" in rule}


def rules() -> list[dict[str, Any]]:
    files = [
        yaml.safe_load((PROMETHEUS / name).read_text()) for name in ("rules.yml", "alerts.yml")
    ]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]
