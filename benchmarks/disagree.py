"""Where the two published networks disagree on the test pictures: `python benchmarks/disagree.py --data SOURCE`.

For each class, how many pictures both networks get right, only the one, only the other, or neither; and, as a picture,
those of which one network was surest where only the other was right. Then the pictures of which both are surest, together,
and both wrong. Writes disagree.csv, disagree.png, both_wrong.csv and both_wrong.png."""
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


def percent(p):
    "A probability that does not claim to be certain"
    return f"{p:.0%}" if p < 0.995 else ">99%"


def both_wrong(answers, labels, classes, n):
    "The pictures where the mean of both is most sure of another class than the label's"
    mean = sum(answers)/len(answers)
    wrong = np.where(mean.argmax(1) != labels, mean.max(1), 0)
    return [{"picture": int(i), "label": classes[labels[i]], "answer": classes[mean[i].argmax()], "probability": round(float(wrong[i]), 4)} for i in np.argsort(-wrong)[:n]]


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
    surest = both_wrong(answers, data.test.labels, data.classes, 12)
    write_csv(args.out/"both_wrong.csv", surest)
    save_figure(draw_both_wrong(surest, data), args.out/"both_wrong.png", 200_000)
    for row in [*rows, *surest]: print(row)
