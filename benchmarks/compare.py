"""The two networks side by side: `python benchmarks/compare.py`.

Parameters, multiply-adds and bytes of the weights (float32); time for one picture and pictures a second in batches of 250,
in float32 and eval mode, measured in turn, so that a noisy machine is noisy for both. Medians with the smallest and largest value."""
import argparse
import statistics
import time
from pathlib import Path

import torch

from era_resnet.custom_resnet import stages
from era_resnet.train import RECIPES, create_model, pick_device, write_csv

NETWORKS = ("custom-resnet", "compact")


def seconds(model, x):
    "Time of one forward pass"
    start = time.perf_counter()
    with torch.no_grad(): model(x).sum().item()
    return time.perf_counter() - start


def spread(values, digits):
    "Median, lowest, highest"
    return [round(f(values), digits) for f in (statistics.median, min, max)]


def compare(device, rounds):
    "A row a network"
    models = {name: create_model(RECIPES[name]).to(device, memory_format=torch.channels_last).eval() for name in NETWORKS}
    one, many = (torch.randn(n, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last) for n in (1, 250))
    for model in models.values(): seconds(model, one), seconds(model, many)
    times = [{name: (min(seconds(model, one) for _ in range(5)), seconds(model, many)) for name, model in models.items()} for _ in range(rounds)]
    rows = []
    for name, model in models.items():
        latency, rate = spread([1000*t[name][0] for t in times], 3), spread([250/t[name][1] for t in times], 1)
        rows.append(dict(network=name, parameters=sum(p.numel() for p in model.parameters()), multiply_adds=sum(r["multiply_adds"] for r in stages(model)),
                         bytes=sum(4*v.numel() for v in model.state_dict().values()), threads=torch.get_num_threads(),
                         one_picture_ms=latency[0], one_picture_ms_low=latency[1], one_picture_ms_high=latency[2],
                         images_per_second=rate[0], images_per_second_low=rate[1], images_per_second_high=rate[2]))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("results/compact/compare.csv"))
    args = parser.parse_args()
    found = compare(pick_device(args.device), args.rounds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_csv(args.out, found)
    for row in found: print(row)
