"""The service killed at random moments while clients submit, cancel and jobs end.

    python -m tests.service.api.kills --database sqlite|postgres [--kills 20]

Clients send what was not answered again, under the same key. At the end every job that a client
was told of has ended, ran at most once, and its record says what really became of it.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from tests.service.api.proving import RAN, Proof, judged, proving
from tests.service.api.served import PREPARE

CHANCE = "$(od -An -N1 -tu1 /dev/urandom)"
SCRIPT = (
    f'echo ran >> "$MIXDIM_JOB_FOLDER/{RAN}"; n=$(({CHANCE} % 20)); '
    "sleep $((n % 4)).$((n % 10)); exit $((n % 5 == 0))"
)
"""A job of up to four seconds, of which one in five fails."""
MAX_SECONDS = 4.0
"""Of life after being ready, before the service is killed."""


class Client(threading.Thread):
    """Submits jobs and cancels some, for as long as the service comes and goes.

    Args:
        proof: The service.
        number: Tells clients apart.
        token: Its own.
    """

    def __init__(self, proof: Proof, number: int, token: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, str] = {}
        self.over = threading.Event()
        self._proof, self._number = proof, number
        self._chance = random.Random(number)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(timeout=60)

    def run(self) -> None:
        sent = 0
        while not self.over.is_set():
            key = f"{self._number}-{sent}"
            self.acknowledged[key] = self._insist(key)
            sent += 1
            if self._chance.random() < 0.3:
                job = self._chance.choice([*self.acknowledged.values()])
                with contextlib.suppress(httpx.TransportError):
                    self._post(f"/jobs/{job}/cancel", {}, {})
            time.sleep(self._chance.random() * 0.3)

    def _insist(self, key: str) -> str:
        """Send a request until it is taken."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                body = {**PREPARE, "output": f"out-{key}"}
                answer = self._post("/jobs", body, {"Idempotency-Key": key})
                if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:  # enough of its jobs wait
                    assert answer.status_code in (200, 201), answer.text
                    return str(answer.json()["id"])
            time.sleep(0.25)

    def _post(self, path: str, body: object, headers: dict[str, str]) -> httpx.Response:
        url = f"{self._proof.base}/api/v1{path}"
        return self._http.post(url, json=body, headers={**self._headers, **headers})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        proving(Path(folder), asked.database, SCRIPT, running=8) as proof,
    ):
        tokens = proof.tokens(asked.clients)
        proof.start()
        clients = [Client(proof, number, token) for number, token in enumerate(tokens)]
        for client in clients:
            client.start()
        moments = [chance.uniform(0, MAX_SECONDS) for _ in range(asked.kills)]
        for moment in moments:
            time.sleep(moment)
            proof.stop(kill=True)
            proof.start()
        assert all(client.is_alive() for client in clients), "a client was told what it cannot be"
        for client in clients:
            client.over.set()
        for client in clients:
            client.join()
        proof.wait_for_all(600)
        told = {key: job for client in clients for key, job in client.acknowledged.items()}
        found = {
            "kills": asked.kills,
            "killed_after_seconds": [round(moment, 2) for moment in moments],
            "seconds_to_ready": round(max(proof.seconds_to_ready), 1),
            **judged(proof, told),
        }
    sys.stdout.write(json.dumps({"database": asked.database, **found}, indent=1) + "\n")
    return int(any(found[name] for name in ("lost", "doubled", "unknown", "wrong")))


if __name__ == "__main__":
    sys.exit(main())
