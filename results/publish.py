"""Publish a finished run: `python results/publish.py RUN NAME [--pictures]`.

Copies the small files of a run folder, with its log if there is one beside it, and the pictures of its report to
results/NAME; with `--pictures` the pictures also to images/, where README and the home page show them."""
import argparse
import shutil
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FILES = ("recipe.json", "lr_find.csv", "history.csv", "metrics.json", "report.md")


def publish(run, name, pictures):
    "Copy the files of a run"
    out = TOP/"results"/name
    out.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if (run/file).exists(): shutil.copy(run/file, out/file)
    if run.with_suffix(".log").exists(): shutil.copy(run.with_suffix(".log"), out/"log.txt")
    shutil.copytree(run/"images", out/"images", dirs_exist_ok=True)
    if pictures: shutil.copytree(run/"images", TOP/"images", dirs_exist_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--pictures", action="store_true")
    args = parser.parse_args()
    publish(args.run, args.name, args.pictures)
