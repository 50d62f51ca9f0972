"""What JPEG costs: `python benchmarks/compression.py --data SOURCE --out FILE.csv`, where SOURCE holds pictures that never were JPEG files.

The training pictures are dealt into parts. For each part two networks with one recipe and one seed learn from all other
parts, one from the pictures as they are and one from JPEG copies of the same pictures; both are judged on the part they
haven't seen, as it is and as JPEG copies. Rows, one for a part, go to the CSV file as they come."""
import argparse
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from era_resnet.data import ImageSet, InputError, load_data
from era_resnet.train import change_recipe, create_model, evaluate, fit, read_recipe, write_csv


def copies(images, quality):
    "The same pictures, written as JPEG files with a quarter of the colours' pixels, and read again"
    read = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        read.append(np.asarray(Image.open(file)))
    return np.stack(read)


def run_part(recipe, data, versions, test):
    "How many answers are right for each version learned from and each judged on, and on how many pictures only one of both is right"
    learned, right = np.setdiff1d(np.arange(len(data.train)), test), {}
    pictures = {version: ImageSet(images, data.train.labels) for version, images in versions.items()}
    for name, own in pictures.items():
        mine = replace(data, train=own.take(learned), test=own.take(test), limit=None, fingerprint=f"{data.fingerprint} {name}")
        with tempfile.TemporaryDirectory() as folder: run = fit(create_model(recipe), mine, recipe, Path(folder)/"run")
        for judged, others in pictures.items():
            answers = evaluate(run.model, others.take(test), run.recipe.stats).logits.argmax(1).numpy()
            right[name, judged] = answers == data.train.labels[test]
    one, other = (right[name, name] for name in versions)
    only = dict(zip(versions, (one & ~other, other & ~one)))
    counts = {f"{name} on {judged}": r for (name, judged), r in right.items()} | {f"only {name} right": r for name, r in only.items()}
    return {name: int(r.sum()) for name, r in counts.items()} | dict(learned=len(learned), judged=len(test))


def main(recipe, data, quality, parts, out):
    "Every part in turn"
    if not 1 <= quality <= 100: raise InputError(f"--quality is {quality}, but must be from 1 to 100")
    if not 2 <= parts <= len(data.train): raise InputError(f"--parts is {parts}, but must be from 2 to the number of training pictures, {len(data.train):,}")
    if out.exists(): raise InputError(f"there is something at {out} already; name another file with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    versions, rows = dict(original=data.train.images, copy=copies(data.train.images, quality)), []
    for part, test in enumerate(np.array_split(np.random.default_rng(recipe.seed).permutation(len(data.train)), parts)):
        rows.append(dict(part=part, quality=quality, seed=recipe.seed) | run_part(recipe, data, versions, test))
        write_csv(out, rows)
        print(rows[-1], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--recipe", default="custom-resnet", help="name, or a JSON file")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--quality", type=int, default=75)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try: main(change_recipe(read_recipe(args.recipe), args.set), load_data(args.data, limit=args.limit), args.quality, args.parts, args.out)
    except InputError as e: parser.error(str(e))
