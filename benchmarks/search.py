"""Try variants of a recipe: `python benchmarks/search.py --recipe compact --data SOURCE --out FILE.csv "weight_decay=1e-4" "width=24 lr_max=0.4"`.

Each trial is a list of fields to change ("" is the recipe itself), trained with several seeds and judged on a holdout of
the training pictures, never on the test pictures. Rows go to the CSV file as they come, with one column for every field
that any trial changes, and for epochs, limit and holdout; runs that stand in it already are not made again."""
import argparse
import time
from pathlib import Path

from ladder import read_rows, run_one

from era_resnet.data import InputError
from era_resnet.train import change_recipe, read_recipe, write_csv


def search(recipe, trials, source, seeds, out):
    "Every trial with seed 0, then every trial with seed 1, and so on"
    rows = read_rows(out)
    before = [k for row in rows[:1] for k in row if hasattr(recipe, k) and k != "seed"]
    fields = dict.fromkeys(["epochs", "limit", "holdout", *before, *(setting.split("=")[0] for trial in trials for setting in trial.split())])
    rows = [{field: str(getattr(recipe, field)) for field in fields} | row for row in rows]
    recipes = [change_recipe(recipe, settings=trial.split()) for trial in trials]
    out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for tried in recipes:
            key = {field: str(getattr(tried, field)) for field in fields} | dict(seed=str(seed))
            if any(all(row.get(k) == v for k, v in key.items()) for row in rows): continue
            start = time.perf_counter()
            rows.append(key | run_one(tried, source, seed) | dict(seconds=round(time.perf_counter() - start)))
            write_csv(out, rows)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="+", metavar="'FIELD=VALUE …'")
    parser.add_argument("--recipe", required=True, help="custom-resnet, compact, fast, or a JSON file")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--limit", type=int, help="train on so many pictures")
    parser.add_argument("--holdout", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try: search(change_recipe(read_recipe(args.recipe), epochs=args.epochs, limit=args.limit, holdout=args.holdout), args.trials, args.data, args.seeds, args.out)
    except InputError as e: parser.error(str(e))
