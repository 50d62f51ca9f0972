"""Where the two published networks disagree on the test pictures: `python benchmarks/disagree.py --data SOURCE`.

For each class, how many pictures both networks get right, only the one, only the other, or neither; and, as a picture,
those of which one network was surest where only the other was right. Writes disagree.csv and disagree.png."""
import argparse
from pathlib import Path

import numpy as np

from era_resnet.analysis import save_figure
from era_resnet.data import figure, load_data
from era_resnet.train import evaluate, write_csv
from era_resnet.zoo import load_pretrained

NAMES = ("custom-resnet", "compact")


def probabilities(name, test):
    "N×classes, of the published weights"
    model = load_pretrained(name)
    return evaluate(model.network, test, model.about["stats"]).logits.softmax(1).numpy()


def table(right, labels, classes):
    "A row a class, and one for all"
    large, small = right
    groups = {"both right": large & small, f"only {NAMES[0]} right": large & ~small, f"only {NAMES[1]} right": small & ~large, "neither right": ~large & ~small}
    rows = [{"class": name} | {what: int(members[labels == i].sum()) for what, members in groups.items()} for i, name in enumerate(classes)]
    return [*rows, {"class": "all"} | {what: int(members.sum()) for what, members in groups.items()}]


def draw(answers, right, data, n):
    "Two rows: what only the first got right, and what only the second did"
    fig, axes = figure(9, 4.1, 2, n)
    for row, (wins, loses) in zip(axes, ((0, 1), (1, 0))):
        sure = np.where(right[wins] & ~right[loses], answers[loses].max(1), 0)
        for ax, i in zip(row, np.argsort(-sure)[:n]):
            ax.imshow(data.test.images[i])
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{data.classes[data.test.labels[i]]}\nnot {data.classes[answers[loses][i].argmax()]}, {f'{sure[i]:.0%}' if sure[i] < 0.995 else '>99%'}", fontsize=9)
        row[0].set_ylabel(f"only {NAMES[wins]}\nis right", fontsize=10)
    fig.suptitle(f"Test pictures of {data.source}: true class, and what the other network was surest of", fontsize=11)
    return fig


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/compact"))
    args = parser.parse_args()
    data = load_data(args.data, limit=args.limit)
    answers = [probabilities(name, data.test) for name in NAMES]
    right = [a.argmax(1) == data.test.labels for a in answers]
    rows = table(right, data.test.labels, data.classes)
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out/"disagree.csv", rows)
    save_figure(draw(answers, right, data, 6), args.out/"disagree.png", 200_000)
    for row in rows: print(row)
