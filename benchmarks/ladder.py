"""Climb from the assignment's recipe to a fast one, rung by rung: `python benchmarks/ladder.py --data SOURCE`.

Each rung changes the best recipe so far, is trained with several seeds on a part of the training pictures and judged
on a holdout of others (never on the test pictures); it is kept if the mean gain over the seeds is larger than its
standard error. Rows go to a CSV file as they come; runs that stand in it already are not run again."""
import argparse
import csv
import multiprocessing
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from era_resnet.data import load_data
from era_resnet.lrfind import find_lr
from era_resnet.train import Recipe, change_recipe, create_model, evaluate, fit, write_csv
from era_resnet.zoo import with_teacher

SGD = dict(optimizer="sgd", weight_decay=5e-4, lr_min=0.02)
RUNGS = { # name: changes to the best so far
    "assignment": {},
    "rate ends at 0": dict(lr_end=0.0),
    "batches of 128": dict(batch_size=128),
    "SGD, rate 0.1": dict(SGD, lr_max=0.1),
    "SGD, rate 0.4": dict(SGD, lr_max=0.4),
    "label smoothing 0.1": dict(label_smoothing=0.1),
    "no cutout": dict(augment="crop-flip"),
    "dirac initialisation": dict(init="dirac"),
    "averaged weights": dict(ema=0.98),
    "peak at a third": dict(peak_epoch=5/3),
}


def run_one(recipe, source, seed):
    "Accuracy on the holdout, and what it cost"
    recipe = replace(recipe, seed=seed)
    data = load_data(source, limit=recipe.limit, holdout=recipe.holdout, seed=seed)
    recipe, teacher = with_teacher(recipe, data.classes)
    with tempfile.TemporaryDirectory() as folder: run = fit(create_model(recipe), data, recipe, Path(folder)/"run", teacher=teacher)
    flipped = evaluate(run.model, data.holdout, run.recipe.stats, tta="flip")
    last = run.history[-1]
    return dict(holdout_acc=last["holdout_acc"], holdout_acc_flip=round(flipped.acc, 6), train_acc=last["train_acc"],
                epochs=recipe.epochs, images=recipe.epochs*len(data.train))


def read_rows(path):
    "What was run before"
    if not path.exists(): return []
    with open(path, newline="") as file: return list(csv.DictReader(file))


def climb(base, rungs, source, seeds, out, pool):
    "Every rung in turn, on the best so far"
    rows, best, best_accs = read_rows(out), base, None
    out.parent.mkdir(parents=True, exist_ok=True)
    for rung, changes in rungs.items():
        missing = [seed for seed in range(seeds) if not any(r["rung"] == rung and int(r["seed"]) == seed for r in rows)]
        for seed, result in zip(missing, pool.map(partial(run_one, change_recipe(best, **changes), source), missing)):
            rows.append(dict(rung=rung, seed=seed, kept="", changes=" ".join(f"{k}={v}" for k, v in changes.items())) | result)
            write_csv(out, rows)
            print(rung, seed, result, flush=True)
        mine = [r for r in rows if r["rung"] == rung]
        accs = [float(r["holdout_acc"]) for r in mine]
        gains = [a - b for a, b in zip(accs, best_accs)] if best_accs else [1.0]*seeds
        kept = statistics.mean(gains) > statistics.stdev(gains)/seeds**0.5
        if kept: best, best_accs = change_recipe(best, **changes), accs
        for r in mine: r["kept"] = "yes" if kept else "no"
        write_csv(out, rows)
        print(f"{rung}: {statistics.mean(accs):.4f}, {'kept' if kept else 'not kept'}", flush=True)
    return best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--holdout", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the processors")
    parser.add_argument("--rates", type=float, nargs=2, metavar=("LRMIN", "LRMAX"), help="of the first rung; left out: the recipe's, or found by the range test")
    parser.add_argument("--out", type=Path, default=Path("results/speed/ladder.csv"))
    args = parser.parse_args()
    start = change_recipe(Recipe(name="ladder", limit=args.limit, holdout=args.holdout, precision="fp32"), width=args.width, epochs=args.epochs)
    if args.rates: start = change_recipe(start, lr_min=args.rates[0], lr_max=args.rates[1])
    elif "FIND" in (start.lr_min, start.lr_max):
        found = find_lr(create_model(start), load_data(args.data, limit=args.limit, holdout=args.holdout), start, iterations=start.find_iterations)
        start = change_recipe(start, lr_min=found.lr_min, lr_max=found.lr_max)
    print(f"--rates {start.lr_min!r} {start.lr_max!r}", flush=True)
    threads = max(1, (os.cpu_count() or 1)//args.jobs)
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        print(climb(start, RUNGS, args.data, args.seeds, args.out, pool))
