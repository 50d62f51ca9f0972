"""Images a second of several training loops, measured in turn: `python benchmarks/throughput.py --data SOURCE`.

The plain loop is what a careful user would write: the same network in float32, Adam, the recipe's batches, a DataLoader with
two workers that calls the albumentations pipeline picture by picture. Each round measures everything once, so that a
noisy machine is noisy for all. All learn from labels alone; a teacher in the recipe is left out. Writes throughput.csv,
throughput.json (machine, medians, ratios) and throughput.png."""
import argparse
import json
import platform
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from era_resnet.analysis import save_figure
from era_resnet.custom_resnet import stages
from era_resnet.data import CIFAR10_STATS, figure, load_data, loaders, train_transform
from era_resnet.lrfind import kept_memory, make_optimizer
from era_resnet.train import change_recipe, choose_precision, create_model, one_cycle, pick_device, read_recipe, train_step, write_csv

LOOPS = {"plain loop": None, "ours, albumentations": dict(loader="albumentations", workers=2), "ours, memory not kept": {}, "ours, fast loader": {},
         "ours, compiled": dict(compile=True)}


class Pictures(Dataset):
    "What a careful user would write"
    def __init__(self, images, transform): self.images, self.transform = images, transform

    def __len__(self): return len(self.images)

    def __getitem__(self, i): return self.transform(image=self.images.images[i])["image"], int(self.images.labels[i])


def reseed(worker):
    "Each worker draws its own numbers"
    torch.utils.data.get_worker_info().dataset.transform.set_random_seed(torch.initial_seed() % 2**32)


def plain_loader(data, recipe, device):
    "A DataLoader with two workers"
    return DataLoader(Pictures(data.train, train_transform(recipe.augment)), recipe.batch_size, shuffle=True, num_workers=2,
                      worker_init_fn=reseed, pin_memory=device.type == "cuda", drop_last=True)


def plain_steps(data, recipe, device):
    "The plain loop, a step at a time; gives the number of pictures"
    model = create_model(recipe).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=100_000)
    while True:
        for x, y in plain_loader(data, recipe, device):
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            schedule.step()
            loss.item(), (logits.argmax(1) == y).sum().item()
            yield len(y)


def our_steps(data, recipe, device, batches=None, keep=True):
    "The package's step on its own loader, or on given batches, with the memory kept as in fit"
    model = create_model(recipe).to(device, memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, recipe, 1e-3)
    schedule = one_cycle(optimizer, 1e-4, 1e-3, 24, 5, 98)
    network = torch.compile(model, mode="reduce-overhead" if device.type == "cuda" else "default") if recipe.compile else model
    with kept_memory(device) if keep else nullcontext():
        while True:
            for x, y in batches or loaders(data, recipe, device)[0]:
                x, y = x.to(device, non_blocking=True, memory_format=torch.channels_last), y.to(device, non_blocking=True)
                train_step(network, x, y, optimizer, schedule, recipe)
                yield len(y)


def batches_of(make, device=None):
    "Batches without end, and nothing done with them; ours with the memory kept, for a device"
    with kept_memory(device) if device else nullcontext():
        while True:
            for x, y in make(): yield len(y)


def rate(steps, n, device):
    "Images a second over n steps, after two to warm up"
    for _ in range(2): next(steps)
    if device.type == "cuda": torch.cuda.synchronize()
    start = time.perf_counter()
    images = sum(next(steps) for _ in range(n))
    if device.type == "cuda": torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    steps.close()
    return images/seconds


def matmul_flops(device, dtype, n):
    "Floating-point operations a second of a large matrix product"
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    def steps():
        while True:
            a @ b
            yield 2*n**3
    return rate(steps(), 5, device)


def measure(data, recipe, device, args):
    "One round: a dictionary of rates"
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    (x, y), found = next(iter(loaders(data, recipe, device)[0])), {}
    for name, changes in tqdm(LOOPS.items(), leave=False):
        if name == "ours, compiled" and args.no_compile: continue
        steps = plain_steps(data, recipe, device) if changes is None else our_steps(data, replace(recipe, **changes), device, keep=name != "ours, memory not kept")
        found[name] = rate(steps, args.steps, device)
    found["step alone"] = rate(our_steps(data, recipe, device, [(x, y)]), args.steps, device)
    found["loader: DataLoader, 2 workers"] = rate(batches_of(lambda: plain_loader(data, recipe, device)), args.loader_steps, device)
    found["loader: ours, fast"] = rate(batches_of(lambda: loaders(data, recipe, device)[0], device), args.loader_steps, device)
    affine = replace(recipe, augment="flip-affine-dropout")
    found["affine loader: DataLoader, 2 workers"] = rate(batches_of(lambda: plain_loader(data, affine, device)), args.loader_steps, device)
    found["affine loader: ours, fast"] = rate(batches_of(lambda: loaders(data, affine, device)[0], device), args.loader_steps, device)
    found["matmul limit"] = matmul_flops(device, dtype, args.matmul)/args.flops_per_image
    return found


def machine(device):
    "What it was measured on"
    info = Path("/proc/cpuinfo")
    model = next((l.split(":")[1].strip() for l in info.read_text().splitlines() if l.startswith("model name")), "") if info.exists() else ""
    return dict(device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({model or platform.machine()})",
                threads=torch.get_num_threads(), torch=torch.__version__, python=platform.python_version())


def summary(rows, recipe, device, args):
    "Medians, spread, and ratios taken within each round"
    names = list(rows[0])
    ratio = lambda a, b: dict(zip(("median", "low", "high"), (round(float(f([r[a]/r[b] for r in rows])), 3) for f in (statistics.median, min, max))))
    return machine(device) | dict(
        data=args.data_source, network=recipe.network, width=recipe.width, batch_size=recipe.batch_size, precision=recipe.precision,
        rounds=len(rows), gflop_per_image=round(args.flops_per_image/1e9, 4),
        images_per_second={n: round(statistics.median(r[n] for r in rows), 1) for n in names},
        to_plain_loop={n: ratio(n, "plain loop") for n in LOOPS if n in names},
        share_of_matmul_limit={n: ratio(n, "matmul limit") for n in (*LOOPS, "step alone") if n in names},
        loader_to_dataloader={n: ratio(f"{n}: ours, fast", f"{n}: DataLoader, 2 workers") for n in ("loader", "affine loader")})


def draw(found):
    "Images a second of each loop, against the limit"
    names = [n for n in (*LOOPS, "step alone") if n in found["images_per_second"]]
    speed, limit = [found["images_per_second"][n] for n in names], found["images_per_second"]["matmul limit"]
    fig, ax = figure(7, 3)
    bars = ax.barh(names[::-1], speed[::-1], color=["#999999" if n == "plain loop" else "#0072B2" for n in names[::-1]])
    ax.bar_label(bars, fmt="%.0f", padding=3)
    ax.axvline(limit, color="#D55E00", ls="--", label=f"matrix products alone: {limit:.0f}")
    ax.set(title=f"{found['network']}, width {found['width']}, {found['precision']}, {found['device']}", xlabel="images a second (median)", xlim=(0, 1.15*max(limit, *speed)))
    fig.legend(loc="outside lower right", fontsize=9)
    return fig


def main(args):
    "Measure, write, print"
    device = pick_device(args.device)
    recipe = change_recipe(read_recipe(args.recipe), stats=CIFAR10_STATS, device=str(device), width=args.width, batch_size=args.batch_size)
    data = load_data(args.data)
    model = create_model(recipe)
    args.flops_per_image, args.data_source = 6*sum(row["multiply_adds"] for row in stages(model)), data.source
    recipe = replace(recipe, precision=choose_precision(model, device)[0] if args.precision == "auto" else args.precision)
    rows = [measure(data, recipe, device, args) for _ in tqdm(range(args.rounds), desc="rounds")]
    found = summary(rows, recipe, device, args)
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out/"throughput.csv", [dict(round=i) | {k: round(v, 2) for k, v in row.items()} for i, row in enumerate(rows)])
    (args.out/"throughput.json").write_text(json.dumps(found, indent=2) + "\n")
    save_figure(draw(found), args.out/"throughput.png")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--recipe", default="custom-resnet", help="custom-resnet or compact")
    parser.add_argument("--width", type=int, help="left out: the recipe's")
    parser.add_argument("--batch-size", type=int, help="left out: the recipe's")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps of each loop in a round, after two to warm up")
    parser.add_argument("--loader-steps", type=int, default=20)
    parser.add_argument("--matmul", type=int, default=4096, help="size of the matrices of the limit")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    main(parser.parse_args())
