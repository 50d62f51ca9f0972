"""How cost grows with pictures, batch size and threads: `python benchmarks/scaling.py`.

Each row is measured in a process of its own, so that its peak of memory is its own: training steps of a network on
drawn pictures, in the precision of the recipe. Writes a CSV file."""
import argparse
import itertools
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

from era_resnet.train import write_csv


def measure(width, images, batch_size, threads, device, seconds):
    "Images a second and the peak of memory of one setting"
    import torch
    from era_resnet.data import loaders, synthetic
    from era_resnet.lrfind import kept_memory, make_optimizer
    from era_resnet.train import Recipe, change_recipe, create_model, one_cycle, pick_device, train_step
    torch.set_num_threads(threads)
    where = pick_device(device)
    recipe = change_recipe(Recipe(precision="bf16" if where.type == "cuda" else "fp32", device=str(where)), width=width, batch_size=batch_size)
    start = time.perf_counter()
    data = synthetic(images, 10)
    batches = loaders(data, recipe, where)[0]
    ready = time.perf_counter() - start
    model = create_model(recipe).to(where, memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, recipe, 1e-3)
    schedule, seen, clock = one_cycle(optimizer, 1e-4, 1e-3, 24, 5, 98), 0, None
    with kept_memory(where):
        while clock is None or time.perf_counter() - clock < seconds:
            for x, y in batches:
                loss, _ = train_step(model, x, y, optimizer, schedule, recipe)
                loss.item()
                if clock is None: clock = time.perf_counter() # the first step warms up
                else: seen += len(y)
                if time.perf_counter() - clock > seconds and seen: break
    speed = seen/(time.perf_counter() - clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == "darwin" else 1024)
    gpu = torch.cuda.max_memory_allocated() if where.type == "cuda" else 0
    return dict(width=width, images=images, batch_size=batch_size, threads=threads, device=where.type, images_per_second=round(speed, 1),
                data_seconds=round(ready, 2), peak_mib=round(peak/2**20), gpu_peak_mib=round(gpu/2**20))


def settings(args):
    "One thing is changed at a time"
    base = dict(width=args.width, images=3000, batch_size=128, threads=os.cpu_count() or 1, device=args.device, seconds=args.seconds)
    changes = itertools.chain(({"images": n} for n in args.images), ({"batch_size": n} for n in (32, 128, 512)),
                              ({"threads": n} for n in range(1, base["threads"])))
    for change in changes: yield base | change


def main(args):
    "A row a process"
    rows, context = [], multiprocessing.get_context("spawn")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for setting in settings(args):
        with context.Pool(1) as pool: rows.append(pool.apply(measure, kwds=setting))
        write_csv(args.out, rows)
        print(rows[-1], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, at least, for each row")
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--out", type=Path, default=Path("results/speed/scaling.csv"))
    main(parser.parse_args())
