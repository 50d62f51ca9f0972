"""What JPEG costs: `python benchmarks/compression.py --data SOURCE --out FILE.csv`, where SOURCE holds pictures that never were JPEG files.

The training pictures are dealt into parts. For each part two networks with one recipe and one seed learn from all other
parts, one from the pictures as they are and one from JPEG copies of the same pictures; both are judged on the part they
haven't seen, as it is and as JPEG copies. Rows, one for a part, go to the CSV file as they come; parts that stand in it
already are not run again."""
import argparse
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from ladder import read_rows
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


def psnr(images, others):
    "Peak signal-to-noise ratio of each picture, in decibels; infinite where nothing differs"
    with np.errstate(divide="ignore"): return 10*np.log10(255**2/((images.astype(float) - others)**2).mean((1, 2, 3)))


def run_part(recipe, data, versions, test, k):
    "How many answers are right for each version learned from and each judged on, and on how many pictures only one of both is right"
    learned = np.setdiff1d(np.arange(len(data.train)), test)
    right = {}
    for name, images in versions.items():
        pictures = ImageSet(images, data.train.labels)
        mine = replace(data, train=pictures.take(learned), test=pictures.take(test), limit=None, fingerprint=f"{data.fingerprint} part {k} {name}")
        with tempfile.TemporaryDirectory() as folder: run = fit(create_model(recipe), mine, recipe, Path(folder)/"run")
        for judged, others in versions.items():
            answers = evaluate(run.model, ImageSet(others[test], data.train.labels[test]), run.recipe.stats)
            right[name, judged] = answers.logits.argmax(1).numpy() == data.train.labels[test]
    one, other = (right[name, name] for name in versions)
    return {f"{name} on {judged}": int(r.sum()) for (name, judged), r in right.items()} | {
        f"only {name} right": int(r.sum()) for name, r in zip(versions, (one & ~other, other & ~one))} | dict(learned=len(learned), judged=len(test))


def main(recipe, data, quality, parts, out):
    "Every part that is missing, and what all say together"
    versions = dict(original=data.train.images, copy=copies(data.train.images, quality))
    print("PSNR of the copies, quartiles in dB:", np.quantile(psnr(*versions.values()), (0.25, 0.5, 0.75)).round(1))
    rows = read_rows(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for k, test in enumerate(np.array_split(np.random.default_rng(recipe.seed).permutation(len(data.train)), parts)):
        about = dict(part=str(k), quality=str(quality), seed=str(recipe.seed))
        if any(all(row[name] == value for name, value in about.items()) for row in rows): continue
        rows.append(about | run_part(recipe, data, versions, test, k))
        write_csv(out, rows)
        print(rows[-1], flush=True)
    for way in ("original on original", "copy on copy", "original on copy", "copy on original"):
        print(f"{way}: {sum(int(row[way]) for row in rows)/sum(int(row['judged']) for row in rows):.4f}")


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
