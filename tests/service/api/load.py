"""The service under load: many clients at once, each with its own token, and many jobs at once.

    python -m tests.service.api.load --database sqlite|postgres [--clients 200 --requests 10000]

Every client submits jobs (each request twice, under one key), lists and reads jobs, their events
and logs, cancels some. Prints latencies and what became of the jobs; exit code 1 if any is lost,
doubled, unknown, or ended otherwise than its record says.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx

from tests.service.api.proving import RAN, Proof, judged, proving
from tests.service.api.served import PREPARE

SCRIPT = f'echo ran >> "$MIXDIM_JOB_FOLDER/{RAN}"; sleep 3'
READS = ("/jobs?limit=20", "/me", "/jobs/{job}", "/jobs/{job}/events", "/jobs/{job}/logs", "/runs")


class Load:
    """What the clients have seen.

    Args:
        base: Address of the service.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[int] = Counter()
        self.acknowledged: dict[str, str] = {}

    async def client(self, number: int, token: str, requests: int) -> None:
        """One user's requests, one after the other."""
        chance = random.Random(number)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.base, headers=headers, timeout=600) as http:
            jobs = [await self.submit(http, f"{number}-0", chance)]
            for request in range(2, requests - 1):
                if request == requests // 2:
                    await self.submit(http, f"{number}-1", chance)
                elif chance.random() < 0.01:
                    await self.timed(http, "POST", "/jobs/{job}/cancel", chance.choice(jobs))
                else:
                    await self.timed(http, "GET", chance.choice(READS), chance.choice(jobs))

    async def timed(self, http: httpx.AsyncClient, method: str, path: str, job: str) -> Any:
        """One request, whose latency is noted under its route."""
        start = time.perf_counter()
        answer = await http.request(method, f"/api/v1{path.format(job=job)}")
        self.seconds[f"{method} {path.split('?')[0]}"].append(time.perf_counter() - start)
        self.statuses[answer.status_code] += 1
        return answer

    async def submit(self, http: httpx.AsyncClient, key: str, chance: random.Random) -> str:
        """The same request twice at once: one job."""
        body = {**PREPARE, "output": f"out-{key}", "priority": chance.randint(-10, 10)}
        answers = await asyncio.gather(*(self.post(http, key, body) for _ in range(2)))
        assert all(answer.status_code in (200, 201) for answer in answers), answers[0].text
        ids = {answer.json()["id"] for answer in answers}
        assert len(ids) == 1, ids
        self.acknowledged[key] = ids.pop()
        return self.acknowledged[key]

    async def post(self, http: httpx.AsyncClient, key: str, body: dict[str, Any]) -> Any:
        start = time.perf_counter()
        answer = await http.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": key})
        self.seconds["POST /jobs"].append(time.perf_counter() - start)
        self.statuses[answer.status_code] += 1
        return answer


async def drive(load: Load, tokens: list[str], requests: int) -> None:
    each = requests // len(tokens)
    clients = (load.client(number, token, each) for number, token in enumerate(tokens))
    await asyncio.gather(*clients)


def most_at_once(proof: Proof) -> int:
    """Jobs that lived at the same time, by their own records."""
    moments = []
    for job in proof.records():
        if job.started_at is not None and job.ended_at is not None:
            moments += [(job.started_at, 1), (job.ended_at, -1)]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def summary(load: Load, seconds: float) -> dict[str, Any]:
    everything = [value for values in load.seconds.values() for value in values]
    reads = [v for kind, values in load.seconds.items() if kind[:3] == "GET" for v in values]
    return {
        "requests": len(everything),
        "seconds": round(seconds, 1),
        "requests_per_second": round(len(everything) / seconds, 1),
        "statuses": dict(load.statuses),
        "latency_ms": quantiles(everything),
        "reads_ms": quantiles(reads),
        "submits_ms": quantiles(load.seconds["POST /jobs"]),
    }


def quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    shown = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(values)}
    return {name: round(1000 * value, 1) for name, value in shown.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=50)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        proving(Path(folder), asked.database, SCRIPT, asked.jobs) as proof,
    ):
        tokens = proof.tokens(asked.clients)
        proof.start()
        load = Load(proof.base)
        start = time.perf_counter()
        asyncio.run(drive(load, tokens, asked.requests))
        found = summary(load, time.perf_counter() - start)
        proof.wait_for_all(600)
        found |= {"jobs_at_once": most_at_once(proof), **judged(proof, load.acknowledged)}
    sys.stdout.write(
        json.dumps({"database": asked.database, "clients": asked.clients, **found}, indent=1) + "\n"
    )
    bad = found["lost"] + found["doubled"] + found["unknown"] + found["wrong"]
    return int(bad > 0 or any(status >= 500 for status in load.statuses))


if __name__ == "__main__":
    sys.exit(main())
