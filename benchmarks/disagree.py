"""Where two networks disagree on the test pictures: `python benchmarks/disagree.py --data SOURCE`, or with `--networks A B`
for others than the two published ones: run folders of two seeds, for example, which then go by the names of the folders.

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

PUBLISHED = ("custom-resnet", "compact")


def table(names, right, labels, classes):
    "A row a class, and one for all"
    one, other = right
    groups = {"both right": one & other, f"only {names[0]} right": one & ~other, f"only {names[1]} right": other & ~one, "neither right": ~one & ~other}
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


def draw(names, answers, right, data, n):
    "Two rows: what only the first got right, and what only the second did"
    fig, axes = figure(9, 4.1, 2, n)
    for row, (wins, loses) in zip(axes, ((0, 1), (1, 0))):
        sure = np.where(right[wins] & ~right[loses], answers[loses].max(1), 0)
        for ax, i in zip(row, np.argsort(-sure)[:n]):
            ax.imshow(data.test.images[i])
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{data.classes[data.test.labels[i]]}\nnot {data.classes[answers[loses][i].argmax()]}, {percent(sure[i])}", fontsize=9)
        row[0].set_ylabel(f"only {names[wins]}\nis right", fontsize=10)
    fig.suptitle(f"Test pictures of {data.source}: true class, and what the other network was surest of", fontsize=11)
    return fig


def main(networks, data, out):
    "Ask both, and write what came"
    models, names = [load_pretrained(name) for name in networks], [Path(name).name for name in networks]
    if names[0] == names[1]: raise InputError(f"both networks would be called {names[0]}; name two that can be told apart")
    for model in models:
        if model.classes != data.classes: raise InputError(f"{data.source} has the classes {', '.join(data.classes)}, but the networks know {', '.join(model.classes)}")
    answers = [evaluate(model.network, data.test, model.stats).logits.softmax(1).numpy() for model in models]
    right = [a.argmax(1) == data.test.labels for a in answers]
    rows, surest = table(names, right, data.test.labels, data.classes), both_wrong(answers, data.test.labels, data.classes, 12)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out/"disagree.csv", rows)
    write_csv(out/"both_wrong.csv", surest)
    save_figure(draw(names, answers, right, data, 6), out/"disagree.png", 200_000)
    save_figure(draw_both_wrong(surest, data), out/"both_wrong.png", 200_000)
    for row in [*rows, *surest]: print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--networks", nargs=2, default=PUBLISHED, metavar="NAME|FILE|RUN")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/compact"))
    args = parser.parse_args()
    try: main(args.networks, load_data(args.data, limit=args.limit), args.out)
    except InputError as e: parser.error(str(e))
