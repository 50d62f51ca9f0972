"The benchmarks run from end to end, in their smallest size, and what they write is what results/speed holds"
import csv
import json
import subprocess
import sys

import pytest
from PIL import Image

from era_resnet.data import synthetic
from era_resnet.zoo import find_weights, load_pretrained


def run(top, folder, name, *words):
    command = [sys.executable, top/"benchmarks"/f"{name}.py", *map(str, words)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def rows(path):
    with open(path, newline="") as file: return list(csv.DictReader(file))


def test_throughput(top, tmp_path):
    run(top, tmp_path, "throughput", "--data", "synthetic", "--width", 4, "--batch-size", 50, "--rounds", 2, "--steps", 1, "--loader-steps", 2,
        "--matmul", 256, "--precision", "fp32", "--no-compile", "--out", tmp_path)
    found = json.loads((tmp_path/"throughput.json").read_text())
    measured = rows(tmp_path/"throughput.csv")
    assert len(measured) == 2 and all(float(v) > 0 for row in measured for k, v in row.items() if k != "round")
    ratios = [float(r["ours, fast loader"])/float(r["plain loop"]) for r in measured]
    assert found["to_plain_loop"]["ours, fast loader"]["low"] == pytest.approx(min(ratios), rel=0.02)
    assert (tmp_path/"throughput.png").stat().st_size < 60_000


def test_ladder_goes_on_where_it_was(top, tmp_path):
    out = tmp_path/"ladder.csv"
    small = ("--data", "synthetic", "--width", 4, "--epochs", 2, "--limit", 520, "--holdout", 100, "--seeds", 2, "--rates", 1e-4, 1e-2, "--jobs", 2, "--out", out)
    run(top, tmp_path, "ladder", *small)
    first = rows(out)
    names = list(dict.fromkeys(r["rung"] for r in first))
    assert len(first) == 2*len(names) >= 20 and names[0] == "assignment" and {r["kept"] for r in first} <= {"yes", "no"}
    out.write_text("\n".join(out.read_text().splitlines()[:-1]) + "\n")
    run(top, tmp_path, "ladder", *small)
    assert rows(out) == first, "the run that was missing is made again, to the same result"


def test_search_makes_what_is_missing(top, tmp_path):
    out = tmp_path/"search.csv"
    small = ("--recipe", "quickstart", "--data", "synthetic", "--epochs", 1, "--limit", 260, "--holdout", 100, "--out", out)
    rates = "width=4 lr_min=1e-4 lr_max=1e-2 precision=fp32"
    run(top, tmp_path, "search", *small, rates)
    first, = rows(out)
    assert first["width"] == "4" and first["seed"] == "0" and first["epochs"] == "1"
    run(top, tmp_path, "search", *small, "--seeds", 2, rates, f"{rates} weight_decay=0.3")
    found = rows(out)
    assert [(r["seed"], r["weight_decay"]) for r in found] == [("0", "0.0"), ("0", "0.3"), ("1", "0.0"), ("1", "0.3")]
    assert found[0] == first | dict(weight_decay="0.0"), "what was there is kept, with its value of the new field"


@pytest.mark.parametrize("name, words, says", [
    ("search", ("--recipe", "compact", "--out", "x.csv", "widht=4"), "widht"), ("search", ("--recipe", "nothing", "--out", "x.csv", ""), "no recipe 'nothing'"),
    ("compression", ("--data", "synthetic", "--parts", "1", "--out", "x.csv"), "--parts is 1"), ("compression", ("--data", "synthetic", "--quality", "101", "--out", "x.csv"), "--quality is 101"),
    ("compression", ("--data", "synthetic", "--out", "."), "something at . already"), ("compression", ("--data", "synthetic", "--set", "widht=4", "--out", "x.csv"), "widht"),
    ("disagree", ("--data", "nowhere", "--out", "x"), "no data at nowhere"), ("disagree", ("--data", "synthetic", "--out", "x"), "but the networks know airplane")])
def test_mistakes_end_in_a_sentence(top, tmp_path, name, words, says):
    result = subprocess.run([sys.executable, top/"benchmarks"/f"{name}.py", *words], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert result.returncode == 2 and says in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_time_to_accuracy(top, tmp_path):
    out = tmp_path/"t.csv"
    run(top, tmp_path, "time_to_accuracy", "--recipe", "quickstart", "--data", "synthetic", "--holdout", 500, "--target", 0.5, "--set", "width=8",
        "--set", "epochs=3", "--set", "lr_min=1e-4", "--set", "lr_max=1e-2", "--set", "precision=fp32", "--out", out)
    row, = rows(out)
    assert 1 <= int(row["epochs"]) <= 3 and int(row["images"]) == 2500*int(row["epochs"]) and float(row["pflop"]) > 0
    history = rows(tmp_path/"runs"/"quickstart"/"history.csv")
    assert float(history[int(row["epochs"]) - 1]["holdout_acc"]) >= 0.5


def test_scaling(top, tmp_path):
    out = tmp_path/"s.csv"
    run(top, tmp_path, "scaling", "--width", 4, "--device", "cpu", "--seconds", 0.2, "--images", 500, 1000, "--out", out)
    found = rows(out)
    assert [int(r["images"]) for r in found[:2]] == [500, 1000] and all(float(r["images_per_second"]) > 0 and int(r["peak_mib"]) > 50 for r in found)


def test_compare(top, tmp_path):
    out = tmp_path/"c.csv"
    run(top, tmp_path, "compare", "--rounds", 2, "--device", "cpu", "--out", out)
    large, small = rows(out)
    assert (int(large["parameters"]), int(small["parameters"])) == (6_573_130, 198_146)
    assert 0 < float(small["one_picture_ms_low"]) <= float(small["one_picture_ms"]) <= float(small["one_picture_ms_high"])
    assert float(small["images_per_second"]) > float(large["images_per_second"])


def test_compression(top, tmp_path):
    out = tmp_path/"new"/"compression.csv"
    settings = ("width=4", "epochs=3", "precision=fp32", "lr_min=1e-4", "lr_max=2e-2")
    run(top, tmp_path, "compression", "--data", "synthetic", "--recipe", "quickstart", *(w for s in settings for w in ("--set", s)),
        "--limit", 400, "--quality", 1, "--parts", 2, "--out", out)
    found = [{name: int(value) for name, value in row.items()} for row in rows(out)]
    assert [(row["part"], row["learned"], row["judged"]) for row in found] == [(0, 200, 200), (1, 200, 200)]
    for row in found: assert row["original on original"] - row["only original right"] == row["copy on copy"] - row["only copy right"] >= 0, "right by both"
    assert sum(row["original on original"] for row in found) > sum(row["original on copy"] for row in found), "nothing is left at quality 1"


def test_disagree(top, tmp_path):
    drawn, classes = synthetic(20, 200), load_pretrained("compact").classes
    for split, pictures in (("train", drawn.train), ("test", drawn.test)):
        for i, (image, label) in enumerate(zip(pictures.images, pictures.labels)):
            path = tmp_path/"drawn"/split/classes[label]/f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    for name in ("a", "b"): (tmp_path/name).write_bytes(find_weights("compact").read_bytes())
    run(top, tmp_path, "disagree", "--data", tmp_path/"drawn", "--networks", tmp_path/"a", tmp_path/"b", "--out", tmp_path/"same")
    everything = rows(tmp_path/"same"/"disagree.csv")[-1]
    assert everything["only a right"] == everything["only b right"] == "0" != everything["neither right"], "a network agrees with itself"
    run(top, tmp_path, "disagree", "--data", tmp_path/"drawn", "--out", tmp_path)
    *classes, everything = rows(tmp_path/"disagree.csv")
    assert len(classes) == 10 and all(sum(int(row[k]) for row in classes) == int(everything[k]) for k in everything if k != "class")
    assert sum(int(everything[k]) for k in everything if k != "class") == 200
    found = rows(tmp_path/"both_wrong.csv")
    assert len(found) == 12 and all(r["label"] != r["answer"] for r in found)
    assert [float(r["probability"]) for r in found] == sorted((float(r["probability"]) for r in found), reverse=True)
    assert all(0 < (tmp_path/name).stat().st_size <= 200_000 for name in ("disagree.png", "both_wrong.png"))
