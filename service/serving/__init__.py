"""Models that are served: an artifact scores raw rows without anything that training needs.

from service.serving import load
load(Path("artifacts/clicks")).predict([{"I1": 3, "C1": "68fd1e64", ...}])
"""

from service.serving.artifact import Artifact, BadRowsError, load

__all__ = ["Artifact", "BadRowsError", "load"]
