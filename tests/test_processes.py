"Two processes on one machine (torchrun, gloo) make the run that one process makes"
import csv
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

SMALL = ["train", "--data", "synthetic", "--limit", "404", "--batch-size", "40", "--epochs", "1", "--device", "cpu", "--set", "width=4", "--set", "precision=fp32",
         "--set", "lr_min=1e-3", "--set", "lr_max=1e-2", "--set", "peak_epoch=0.5", "--set", "optimizer=sgd", "--seed", "3"]

ONE_THREAD = dict(os.environ, OMP_NUM_THREADS="1") # torchrun's own setting; sums over threads are rounded in another way, and a few steps magnify that


def together(folder, *words, processes=2, **options):
    "Run the program in several processes"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "era_resnet.cli", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=ONE_THREAD, **options)


def alone(folder, *words):
    "Run the program in one process"
    result = subprocess.run([sys.executable, "-m", "era_resnet.cli", *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=300, env=ONE_THREAD)
    assert result.returncode == 0, result.stderr[-2000:]


def weights(run): return {k: v for k, v in load_file(run/"model.safetensors").items() if "running" not in k and "num_batches" not in k}


def row(run):
    "The last row of the history"
    with open(run/"history.csv", newline="") as file: return list(csv.DictReader(file))[-1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    "The same run by two processes, and by one that takes each batch in two parts"
    folder = tmp_path_factory.mktemp("pair")
    result = together(folder, *SMALL, "--out", "two")
    assert result.returncode == 0, result.stderr[-3000:]
    alone(folder, *SMALL, "--accumulate", "2", "--out", "one")
    return folder, result


def test_two_processes_make_the_steps_of_one(pair):
    folder, said = pair
    one, two = weights(folder/"one"), weights(folder/"two")
    apart = max(((one[k] - two[k]).norm()/one[k].norm()).item() for k in one)
    assert apart < 1e-5, apart
    for name in ("train_loss", "train_acc"): assert float(row(folder/"two")[name]) == pytest.approx(float(row(folder/"one")[name]), rel=1e-5)
    assert said.stdout.count("report:") == 1 and (folder/"two"/"report.md").exists(), "the first process speaks for all"


def test_metrics_are_those_of_one_process_on_the_same_weights(pair):
    folder, _ = pair
    from era_resnet.data import load_data
    from era_resnet.train import evaluate, load_run
    run = load_run(folder/"two")
    assert len(load_data("synthetic", limit=404, seed=3).test) == 404, "an odd share for each"
    judged = evaluate(run.model, load_data("synthetic", limit=404, seed=3).test, run.recipe.stats)
    assert run.metrics["test_acc"] == judged.acc and run.metrics["test_loss"] == pytest.approx(judged.loss, rel=1e-5)


def test_resume_with_another_number_of_processes(pair, tmp_path):
    code = f"""
import os, signal, sys
import era_resnet.train as t
real, calls = t.train_step, []
def stop(*args):
    calls.append(1)
    if len(calls) == 6: os.kill(os.getpid(), signal.SIGTERM)
    return real(*args)
t.train_step = stop
sys.argv = ["era-resnet", *{[*SMALL, "--set", "accumulate=2", "--out", "run"]!r}]
from era_resnet.cli import main
main()
"""
    stopped = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=ONE_THREAD)
    assert stopped.returncode == 143 and "go on with" in stopped.stderr, stopped.stderr[-2000:]
    result = together(tmp_path, "train", "--resume", "--out", "run", "--set", "accumulate=1")
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = weights(pair[0]/"one"), weights(tmp_path/"run")
    assert max(((one[k] - two[k]).norm()/one[k].norm()).item() for k in one) < 1e-5
    assert float(row(tmp_path/"run")["train_acc"]) == pytest.approx(float(row(pair[0]/"one")["train_acc"]), rel=1e-5), "sums of before and after"


def struck(tmp_path, signal, *words, before=""):
    "Two processes of which the second gets a signal when its fourth step begins, after some other line of Python"
    (tmp_path/"struck.py").write_text(f"""
import os, signal
import era_resnet.train as t
real, calls = t.train_step, []
def strike(*args):
    calls.append(1)
    if len(calls) == 4 and os.environ["RANK"] == "1": os.kill(os.getpid(), signal.{signal})
    return real(*args)
t.train_step = strike
{before}
from era_resnet.cli import main
main()
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "struck.py", *SMALL, *words, "--out", "run"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=ONE_THREAD)


def test_a_signal_is_seen_at_the_end_of_an_epoch_that_is_shorter_than_the_looks(tmp_path):
    result = struck(tmp_path, "SIGTERM", "--set", "epochs=2", before="t._look_every = lambda device: 50")
    assert result.returncode != 0 and "stopped and saved after step 11 of epoch 1" in result.stderr, result.stderr[-3000:]


def test_one_process_dies(tmp_path):
    result = struck(tmp_path, "SIGKILL")
    assert result.returncode != 0 and ("another process of this run has ended" in result.stderr or "stopped and saved" in result.stderr), result.stderr[-3000:]
    assert not list((tmp_path/"run").glob(".*.part")) and (tmp_path/"run"/"checkpoint.pt").exists()


def test_bad_input_is_said_once(tmp_path):
    for settings, says in [(["batch_size=403"], "the smallest batch of an epoch has 1 pictures, too few for 2 processes"),
                           (["batch_size=133", "accumulate=3"], "the smallest batch of an epoch has 5 pictures, too few for 2 processes and accumulate=3")]:
        result = together(tmp_path, *SMALL, *(word for setting in settings for word in ("--set", setting)), "--out", "run")
        assert result.returncode != 0 and result.stderr.count(f"era-resnet: {says}") == 1, result.stderr[-2000:]


def test_shared_batchnorm_is_refused_where_it_cannot_work(tmp_path):
    result = together(tmp_path, *SMALL, "--set", "sync_batchnorm=true", "--out", "two")
    assert result.returncode != 0 and "sync_batchnorm works on CUDA only" in result.stderr and not (tmp_path/"two"/"metrics.json").exists()
