"""Time, epochs, images and FLOPs until a network reaches a target on a holdout:
`python benchmarks/time_to_accuracy.py --target 0.90 --recipe fast --data SOURCE`.

Trains with several seeds, each on all training pictures but a holdout of its own, and looks at the holdout after each
epoch. A row a run goes to a CSV file; cells stay empty where the target was not reached."""
import argparse
from pathlib import Path

from era_resnet.custom_resnet import stages
from era_resnet.data import load_data
from era_resnet.train import change_recipe, create_model, fit, read_recipe, write_csv
from era_resnet.zoo import with_teacher


def until(run, target, flops_per_image):
    "What it took to reach the target, and where the run ended"
    rows = run.history
    reached = next((i + 1 for i, row in enumerate(rows) if row["holdout_acc"] >= target), None)
    images = reached and reached*run.about["images"]["train"]
    return dict(target=target, epochs=reached, seconds=reached and round(sum(row["seconds"] for row in rows[:reached]), 1), images=images,
                pflop=images and round(images*flops_per_image/1e15, 4), final_holdout_acc=rows[-1]["holdout_acc"], all_epochs=len(rows))


def multiply_adds(network):
    "Of one picture, forward"
    return sum(row["multiply_adds"] for row in stages(network))


def main(args):
    "A run a seed"
    rows, base = [], change_recipe(read_recipe(args.recipe), args.settings, holdout=args.holdout, data=args.data)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        recipe = change_recipe(base, seed=seed)
        data = load_data(args.data, limit=recipe.limit, holdout=args.holdout, seed=seed)
        recipe, teacher = with_teacher(recipe, data.classes)
        flops_per_image = 6*multiply_adds(create_model(recipe)) + (2*multiply_adds(teacher) if teacher else 0)
        run = fit(create_model(recipe), data, recipe, teacher=teacher)
        rows.append(dict(recipe=base.name, data=data.source, device=run.metrics["device"], precision=run.recipe.precision, seed=seed)
                    | until(run, args.target, flops_per_image))
        write_csv(args.out, rows)
        print(rows[-1], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=float, default=0.90)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--holdout", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/speed/time_to_accuracy.csv"))
    main(parser.parse_args())
