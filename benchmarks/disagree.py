"""Where the two published networks disagree on the test pictures: `python benchmarks/disagree.py --data SOURCE`.

For each class, how many pictures both networks get right, only the one, only the other, or neither; and, as a picture,
those of which one network was surest where only the other was right. Then the pictures of which both are surest, together,
and both wrong. Writes disagree.csv, disagree.png, both_wrong.csv and both_wrong.png."""
import argparse
from pathlib import Path

import numpy as np
import torch

from era_resnet.analysis import most_wrong, percent, save_figure
from era_resnet.data import InputError, figure, load_data
from era_resnet.train import Evaluation, evaluate, write_csv
from era_resnet.zoo import load_pretrained

NAMES = ("custom-resnet", "compact")


def table(right, labels, classes):
    "A row a class, and one for all"
    large, small = right
    groups = {"both right": large & small, f"only {NAMES[0]} right": large & ~small, f"only {NAMES[1]} right": small & ~large, "neither right": ~large & ~small}
    rows = [{"class": name} | {what: int(members[labels == i].sum()) for what, members in groups.items()} for i, name in enumerate(classes)]
    return [*rows, {"class": "all"} | {what: int(members.sum()) for what, members in groups.items()}]


def both_wrong(answers, labels, classes, n):
    "The pictures where the mean of both is most sure of another class than the label's"
    mean = sum(answers)/len(answers)
    chosen = most_wrong(Evaluation(0.0, 0.0, 0.0, torch.from_numpy(mean).log()), labels, n)
    return [{"picture": int(i), "label": classes[labels[i]], "answer": classes[mean[i].argmax()], "probability": round(float(mean[i].max()), 4)} for i in chosen]


def draw_both_wrong(rows, data):
    "Those pictures, with their numbers"
    fig, axes = figure(9, 4.3, 2, len(rows)//2)
    for ax, row in zip(axes.flat, rows):
        ax.imshow(data.test.images[row["picture"]])
        ax.axis("off")
        ax.set_title(f"{row['picture']}: {row['label']}\n→ {row['answer']}, {percent(row['probability'])}", fontsize=9)
    fig.suptitle(f"Test pictures of {data.source}: number and label, and what both networks say instead", fontsize=11)
    return fig


def draw(answers, right, data, n):
    "Two rows: what only the first got right, and what only the second did"
    fig, axes = figure(9, 4.1, 2, n)
    for row, (wins, loses) in zip(axes, ((0, 1), (1, 0))):
        sure = np.where(right[wins] & ~right[loses], answers[loses].max(1), 0)
        for ax, i in zip(row, np.argsort(-sure)[:n]):
            ax.imshow(data.test.images[i])
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{data.classes[data.test.labels[i]]}\nnot {data.classes[answers[loses][i].argmax()]}, {percent(sure[i])}", fontsize=9)
        row[0].set_ylabel(f"only {NAMES[wins]}\nis right", fontsize=10)
    fig.suptitle(f"Test pictures of {data.source}: true class, and what the other network was surest of", fontsize=11)
    return fig


def main(data, out):
    "Ask both, and write what came"
    models = [load_pretrained(name) for name in NAMES]
    for model in models:
        if model.classes != data.classes: raise InputError(f"{data.source} has the classes {', '.join(data.classes)}, but the networks know {', '.join(model.classes)}")
    answers = [evaluate(model.network, data.test, model.stats).logits.softmax(1).numpy() for model in models]
    right = [a.argmax(1) == data.test.labels for a in answers]
    rows, surest = table(right, data.test.labels, data.classes), both_wrong(answers, data.test.labels, data.classes, 12)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out/"disagree.csv", rows)
    write_csv(out/"both_wrong.csv", surest)
    save_figure(draw(answers, right, data, 6), out/"disagree.png", 200_000)
    save_figure(draw_both_wrong(surest, data), out/"both_wrong.png", 200_000)
    for row in [*rows, *surest]: print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/compact"))
    args = parser.parse_args()
    try: main(load_data(args.data, limit=args.limit), args.out)
    except InputError as e: parser.error(str(e))
