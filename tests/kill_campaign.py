"""Kill a training at random moments, go on with it, and compare: `python tests/kill_campaign.py --kills 200 --seed 0`.

A run is started as a process, killed (SIGKILL) after a random time between its start and the time that it takes
undisturbed, started again, up to four times, and brought to its end; then its weights, history and metrics are compared with those of
the run that nothing happened to, bit for bit, and the next run begins. The ways to load pictures take turns."""
import argparse
import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

BASE = ["train", "--recipe", "quickstart", "--limit", "400", "--batch-size", "20", "--epochs", "2", "--deterministic", "--set", "width=8",
        "--set", "precision=fp32", "--set", "lr_min=1e-4", "--set", "lr_max=3e-3", "--set", "save_steps=7", "--device", "cpu"]
WAYS = {"fast": [], "albumentations": ["--set", "loader=albumentations"],
        "albumentations, 2 workers": ["--set", "loader=albumentations", "--set", "workers=2"]}


def command(folder, way):
    "Begin, or go on if there is a checkpoint"
    words = ["train", "--resume"] if (folder/"checkpoint.pt").exists() else [*BASE, *WAYS[way]]
    return [sys.executable, "-m", "era_resnet.cli", *words, "--out", str(folder)]


def result(folder):
    "Weights, history and metrics, without what is measured by the clock"
    with open(folder/"history.csv", newline="") as file:
        history = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in csv.DictReader(file)]
    metrics = {k: v for k, v in json.loads((folder/"metrics.json").read_text()).items() if k != "seconds"}
    return load_file(folder/"model.safetensors"), history, metrics


def equal(a, b):
    "Bit for bit?"
    return a[1:] == b[1:] and a[0].keys() == b[0].keys() and all(torch.equal(a[0][k], b[0][k]) for k in a[0])


def run_until(folder, way, seconds):
    "True if the run came to its end before it was killed"
    process = subprocess.Popen(command(folder, way), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try: said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode != 0: raise RuntimeError(f"{way}: exit code {process.returncode}: {said}")
    return True


def campaign(kills, seed, work, ways=tuple(WAYS)):
    "Kill so many times; gives how many runs were finished and how many of them differ"
    chance, whole, lasts, killed, finished, differ, n = random.Random(seed), {}, {}, 0, 0, 0, 0
    for way in ways:
        start = time.monotonic()
        assert run_until(work/way, way, None)
        whole[way], lasts[way] = result(work/way), time.monotonic() - start
    while killed < kills or n == 0:
        way, folder, n, done, before = ways[n % len(ways)], work/f"run-{n}", n + 1, False, killed
        while not done:
            limit = chance.uniform(0.1, lasts[way]) if killed < min(kills, before + 4) else None
            done = run_until(folder, way, limit)
            killed += not done
        finished, differ = finished + 1, differ + (not equal(result(folder), whole[way]))
        left = list(folder.glob(".*.part"))
        assert not left, left
        shutil.rmtree(folder)
    return dict(kills=killed, seed=seed, finished=finished, differ=differ)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the counts to this JSON file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder: counts = campaign(args.kills, args.seed, Path(folder))
    print(json.dumps(counts))
    if args.out: args.out.write_text(json.dumps(counts) + "\n")
    sys.exit(counts["differ"] > 0)
