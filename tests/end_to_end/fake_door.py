"""An HTTP door that needs no model: it serves the page's files and plays scripted drawings.

The prompt picks the script: a subject of its own gives the flamingo, "unicorn" is unknown,
"break" ends the stream unfinished, "fail" ends it with an error event, "busy" is refused, and
"slow" holds the stream open after the first leaf until the client goes away, "tall" draws beyond
the top of the frame.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: JSON

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

WEB = Path(__file__).parents[2] / "server/hitree_server/web"

# A demonstration from the built-in set: (text, strokes as (xs, ys)).
LEAVES = (
    (
        "draw a round body with a tail",
        [
            (
                [86, 100, 119, 136, 159, 178, 191, 192, 184, 171, 130, 114, 98, 85],
                [109, 88, 82, 81, 86, 95, 108, 117, 126, 133, 140, 138, 130, 111],
            )
        ],
    ),
    (
        "add a long curved neck",
        [
            (
                [87, 67, 56, 58, 76, 79, 76, 69, 63, 53],
                [109, 114, 100, 84, 52, 33, 20, 11, 8, 9],
            )
        ],
    ),
    (
        "draw a small head with a hooked beak",
        [
            ([53, 44, 39, 28, 25, 30, 41, 53, 53], [11, 2, 0, 6, 15, 24, 28, 20, 13]),
            ([27, 12, 5, 0, 2], [11, 13, 19, 31, 47]),
            ([29, 18, 2], [25, 28, 47]),
            ([37], [12]),
        ],
    ),
    (
        "draw a long bent leg",
        [([126, 129, 126], [140, 192, 244]), ([110, 126, 143], [255, 244, 254])],
    ),
    ("fold the other leg under the body", [([143, 162, 164, 158, 129], [138, 168, 178, 185, 197])]),
)
PARENTS = (
    (0, None, "draw a flamingo standing on one leg"),
    (1, 0, "draw the upper half"),
    (5, 0, "add two legs"),
)
LEAF_IDS = (2, 3, 4, 6, 7)


class FakeDoor(SimpleHTTPRequestHandler):
    """Files of the page, and POST /v1/draw."""

    requests: list[dict[str, Any]]  # bodies of the draw requests, in order; set by `fake_door`
    gone: threading.Event  # set when a client left a slow drawing

    def do_POST(self) -> None:
        """Play the script that the prompt picks."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.requests.append(body)
        prompt = body["prompt"]
        if "unicorn" in prompt:
            nearest = {"nearest": "sheep, rhinoceros, sea turtle"}
            self._refuse(404, "UNKNOWN_SUBJECT", f'no subject in "{prompt}"; name one', **nearest)
        elif "busy" in prompt:
            self._refuse(429, "OVERLOADED", "the queue is full; try again in 2 seconds")
        else:
            self._stream(prompt)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _refuse(self, status: int, reason: str, message: str, **details: str) -> None:
        error = {"reason": reason, "message": message, "retry_after_ms": 0, "details": details}
        body = json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, prompt: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for index, event in enumerate(_events(self.requests[-1])):
            if event["kind"] == "node_finished" and "slow" in prompt:
                self._wait_until_gone()
                return
            if event["kind"] == "node_finished" and "break" in prompt:
                return
            if event["kind"] == "node_finished" and "fail" in prompt:
                error = {"reason": "INTERNAL", "message": "the step failed; draw it again"}
                event = {"kind": "error", "error": error}
            self._send({"index": index, **event})
            if event["kind"] == "error":
                return

    def _send(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"event: {event['kind']}\ndata: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _wait_until_gone(self) -> None:
        try:
            while not self.gone.wait(0.02):
                self.wfile.write(b": still here\n\n")
        except OSError:
            self.gone.set()


@contextmanager
def fake_door() -> Iterator[tuple[str, type[FakeDoor]]]:
    """The door on a free port: its address and its class, which keeps what was asked."""
    state = {"requests": [], "gone": threading.Event()}
    door: type[FakeDoor] = type("Door", (FakeDoor,), state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(door, directory=str(WEB)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", door
    finally:
        door.gone.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _plan(prompt: str) -> dict[str, Any]:
    leaves = zip(LEAF_IDS, (1, 1, 1, 5, 5), (text for text, _ in LEAVES), strict=True)
    rows = sorted([*PARENTS, *leaves])
    nodes = [
        {"id": i, "parent": parent, "text": text, "start": None, "end": None, "score": None}
        for i, parent, text in rows
    ]
    return {"prompt": prompt, "subject": "flamingo", "confidence": 0.97, "nodes": nodes}


def _events(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    seed = request["seed"]
    started = {"request_id": "r1", "subject": "flamingo", "seed": seed, "model_version": "0.1.0"}
    yield {"kind": "started", **started, "frame": 256, "replayed": False, "candidate": 0}
    yield {"kind": "plan", "plan": _plan(request["prompt"])}
    stroke = points = clock = 0
    lift = 80 if "tall" in request["prompt"] else 0
    for node, (text, strokes) in zip(LEAF_IDS, LEAVES, strict=True):
        yield {"kind": "node_started", "node": node, "text": text}
        first = stroke
        for xs, ys in strokes:
            path = _dense(np.array([xs, ys], np.float64).T - [0, lift])
            t_ms = [clock + 17 * (i + 1) for i in range(len(path))]
            clock, points = t_ms[-1] + 150, points + len(path)
            made = {"points": path, "t_ms": t_ms, "stroke": stroke, "node": node}
            yield {"kind": "points", **made}
            yield {"kind": "stroke_finished", "stroke": stroke, "node": node}
            stroke += 1
        yield {"kind": "node_finished", "node": node, "start": first, "end": stroke}
    timings = {"queued_ms": 0.2, "first_point_ms": 4.2, "total_ms": 96.0}
    totals = {"strokes": stroke, "points": points, "timings": timings}
    yield {"kind": "finished", "reason": "complete", **totals}


def _dense(corners: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float]]:
    """The polyline with a point about every 8 units, on the grid of a quarter unit."""
    if len(corners) == 1:
        return corners.tolist()  # type: ignore[no-any-return]  # numpy types tolist as Any
    steps = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    where = np.linspace(0, at[-1], max(2, int(at[-1] / 8)))
    path = np.stack([np.interp(where, at, axis) for axis in corners.T], axis=1)
    return (np.round(path * 4) / 4).tolist()  # type: ignore[no-any-return]  # as above
