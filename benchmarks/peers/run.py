"""The service against its peers: the same drawings, the same load, one core for each server.

    python benchmarks/peers/run.py [--bundle FOLDER] [--peers FOLDER] [--pytriton FOLDER]
        [--servers NAME ...] [--rounds 3] [--seconds 10] [--streams 64] [--out FOLDER]

Servers run one at a time and in turns: on core 0 with all that they start, the client on core 1.
Prints a table; ``--out`` is where ``results.json`` and the servers' logs are left. The README
beside this file says how the environments of the peers are made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from prepare import write
from processes import Server, free_ports, pinned

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path.home() / ".cache" / "hitree"  # where the README puts the peers' environments
SERVER_CORE, CLIENT_CORE = 0, 1
OURS, PEERS, PYTRITON = "ours", "peers", "pytriton"  # environments
PACKAGES = {
    OURS: "hitree onnxruntime numpy grpcio",
    PEERS: "litserve bentoml ray onnxruntime numpy starlette uvicorn uvloop httptools aiohttp",
    PYTRITON: "nvidia-pytriton tritonclient onnxruntime numpy grpcio",
}
RAY = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",  # HAProxy instead of the proxy in Python
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Contender:
    """How a server is started and spoken to; "{port}" and "{next}" stand for its ports."""

    name: str
    where: str  # the environment of the server and of its client
    command: str  # the program in the environment's bin, and its arguments
    kind: str  # see client.py
    environment: dict[str, str] = field(default_factory=dict)


CONTENDERS = (
    Contender(
        "hitree",
        OURS,
        "hitree serve --port={port} --http-port={next}",
        "hitree",
        {"HITREE_LOG_LEVEL": "warning"},
    ),
    Contender("litserve", PEERS, "python {here}/serve_litserve.py", "/predict"),
    Contender(
        "bentoml",
        PEERS,
        "bentoml serve serve_bentoml:Sketcher --working-dir={here} --host=127.0.0.1 --port={port}",
        "/draw",
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    *(
        Contender(
            f"ray-{way}", PEERS, "python {here}/serve_ray.py", "/", RAY | {"PEER_BATCHED": way}
        )
        for way in ("steps", "drawings")
    ),
    *(
        Contender(
            f"triton-{way}",
            PYTRITON,
            "python {here}/serve_triton.py",
            f"triton-{way}",
            {"PEER_BATCHED": way},
        )
        for way in ("steps", "drawings")
    ),
)


@dataclass(frozen=True)
class Run:
    """What is the same for every turn."""

    environments: dict[str, Path]  # folders of programs
    bundle: Path
    asked: Path  # made by prepare.py
    out: Path
    load: list[str]  # arguments of the client


def turn(run: Run, contender: Contender, number: int) -> dict[str, Any]:
    """Start a server, load it, stop it; what the client recorded, or why there is nothing."""
    log = run.out / f"{contender.name}-{number}.log"
    port = free_ports()
    command = contender.command.format(port=port, next=port + 1, here=HERE).split()
    folder = run.environments[contender.where]
    environment = _environment(run, folder) | contender.environment | {"PEER_PORT": str(port)}
    program = [str(folder / command[0]), *command[1:]]
    if not Path(program[0]).exists():
        return {"failed": f"{program[0]} does not exist"}
    with Server(program, SERVER_CORE, log, environment) as server:
        client = [str(folder / "python"), str(HERE / "client.py")]
        told = [contender.kind, str(port), str(run.asked), *run.load]
        return _load(server, pinned([*client, *told], CLIENT_CORE), environment, log)


def _load(
    server: Server, command: list[str], environment: dict[str, str], log: Path
) -> dict[str, Any]:
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        while client.poll() is None and server.running:
            time.sleep(0.1)
        if client.poll() is None:
            client.kill()
            return {"failed": f"the server ended: {_tail(log.read_text(errors='replace'))}"}
        output, complaints = client.communicate()
    if client.returncode:
        return {"failed": f"the client failed: {_tail(complaints)}"}
    return dict(json.loads(output))


def _environment(run: Run, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HITREE_")}
    rooms = [str(ROOT / room) for room in ("core", "server", "sdk")]
    return kept | {
        "PATH": f"{folder}:{kept['PATH']}",
        "PYTHONPATH": ":".join([*rooms, str(HERE)]),
        "OMP_NUM_THREADS": "1",
        "HITREE_BUNDLE": str(run.bundle),
        "PEER_BUNDLE": str(run.bundle),
    }


def _tail(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-3:])


def versions(environments: dict[str, Path]) -> dict[str, dict[str, str]]:
    """The installed versions of what matters, by environment; empty where it is missing."""
    script = (
        "import json, platform, sys, importlib.metadata as found\n"
        "versions = {name: found.version(name) for name in sys.argv[1:]}\n"
        "print(json.dumps({'python': platform.python_version()} | versions))"
    )
    found = {}
    for name, folder in environments.items():
        command = [str(folder / "python"), "-c", script, *PACKAGES[name].split()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as exc:
            found[name] = {"missing": str(exc)}
        else:
            found[name] = json.loads(done.stdout)
    return found


def table(turns: dict[str, list[dict[str, Any]]]) -> str:
    """Medians over the rounds, least and most in brackets; the first server is what is compared."""
    lines = [
        "| server | points a second | ratio | first point p50 | p99 | drawings a second "
        "| points a message | points a CPU second | server busy | client busy | errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = next(iter(turns.values()))
    base = median([made["points_per_second"] for made in first if "failed" not in made] or [0])
    for name, rounds in turns.items():
        made = [one for one in rounds if "failed" not in one]
        if not made:
            lines.append(f"| {name} | did not run: {rounds[0]['failed']} {'|' * 10}")
            continue
        rate = [one["points_per_second"] for one in made]
        ratio = f"{median(rate) / base:.2f}" if base else ""
        lines.append(
            f"| {name} | {median(rate):,.0f} ({min(rate):,.0f} to {max(rate):,.0f}) | {ratio} "
            f"| {_ms(made, 'first_p50')} | {_ms(made, 'first_p99')} "
            f"| {median(one['drawings_per_second'] for one in made):.1f} "
            f"| {median(one['points_per_message'] for one in made):.1f} "
            f"| {median(one['points_per_cpu_second'] or 0 for one in made):,.0f} "
            f"| {median(one['server_busy'] for one in made):.0%} "
            f"| {median(one['client_busy'] for one in made):.0%} "
            f"| {sum(one['errors'] for one in made)} |"
        )
    return "\n".join(lines)


def _ms(made: list[dict[str, Any]], name: str) -> str:
    values = [one[name] * 1000 for one in made if one[name] is not None]
    if not values:
        return ""
    return f"{median(values):,.0f} ms ({min(values):,.0f} to {max(values):,.0f})"


def main() -> None:
    args = _arguments()
    out = args.out or Path(tempfile.mkdtemp(prefix="hitree-peers-"))
    out.mkdir(parents=True, exist_ok=True)
    asked = write(args.bundle, out / "asked.json")
    environments = {
        OURS: Path(sys.executable).parent,
        PEERS: args.peers.absolute() / "bin",
        PYTRITON: args.pytriton.absolute() / "bin",
    }
    load = [f"--{name}={getattr(args, name)}" for name in ("streams", "seconds", "warmup")]
    run = Run(environments, args.bundle.absolute(), out / "asked.json", out.absolute(), load)
    chosen = [one for one in CONTENDERS if one.name in args.servers]
    turns: dict[str, list[dict[str, Any]]] = {one.name: [] for one in chosen}
    for number in range(1, args.rounds + 1):
        for contender in chosen:
            made = turn(run, contender, number)
            turns[contender.name].append(made)
            sys.stderr.write(f"round {number}, {contender.name}: {json.dumps(made)}\n")
    found = versions(environments)
    report = {
        "versions": found,
        "arguments": {name: str(value) for name, value in vars(args).items()},
        "points_per_drawing": mean(asked.points),
        "turns": turns,
    }
    (out / "results.json").write_text(json.dumps(report, indent=1))
    for name, packages in found.items():
        sys.stdout.write(f"{name}: {', '.join(f'{k} {v}' for k, v in packages.items())}\n")
    sys.stdout.write(
        f"\n{args.streams} streams, {args.rounds} rounds of {args.seconds:g} s, "
        f"{mean(asked.points):.1f} points a drawing\n\n{table(turns)}\n"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [one.name for one in CONTENDERS]
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundle" / "hitree_bundle")
    parser.add_argument("--peers", type=Path, default=CACHE / "peers")
    parser.add_argument("--pytriton", type=Path, default=CACHE / "pytriton")
    parser.add_argument("--servers", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="that are measured, each turn")
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--out", type=Path, help="for results and logs; by default a new folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
