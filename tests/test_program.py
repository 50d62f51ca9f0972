"The program as a person meets it: started as a process, stopped, resumed, and fed with mistakes"
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch
from safetensors.torch import load_file

SMALL = ["train", "--recipe", "quickstart", "--limit", "400", "--batch-size", "20", "--epochs", "2", "--deterministic",
         "--set", "width=8", "--set", "precision=fp32", "--set", "lr_min=1e-4", "--set", "lr_max=3e-3"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    "A run that nobody interrupted"
    folder = tmp_path_factory.mktemp("runs")/"whole"
    subprocess.run([sys.executable, "-m", "era_resnet.cli", *SMALL, "--out", folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def whole(uninterrupted, tmp_path):
    "A copy of it"
    return Path(shutil.copytree(uninterrupted, tmp_path/"whole"))


def same(a, b):
    "Do two run folders hold the same weights and the same history, times aside?"
    first, second = load_file(a/"model.safetensors"), load_file(b/"model.safetensors")
    assert all(torch.equal(first[k], second[k]) for k in first)
    untimed = lambda folder: [line.split(",")[:6] for line in (folder/"history.csv").read_text().splitlines()]
    assert untimed(a) == untimed(b)


def wait_for_first_epoch(process, folder):
    "Wait until the first epoch of a run is done"
    while not (folder/"history.csv").exists():
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.01)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_saves_says_how_to_go_on_and_ends_the_same(whole, era, tmp_path, number, code):
    process = subprocess.Popen([sys.executable, "-m", "era_resnet.cli", *SMALL, "--out", "stopped"], cwd=tmp_path,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_first_epoch(process, tmp_path/"stopped")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, out + err
    assert "go on with" in err and "Traceback" not in err
    words = re.search(r"era-resnet (train --resume .*)", err)[1].split()
    assert not (tmp_path/"stopped"/"metrics.json").exists()
    resumed = era(*words)
    assert resumed.returncode == 0, resumed.stderr
    same(whole, tmp_path/"stopped")


def test_a_taught_run_goes_on_with_its_teacher(whole, era, tmp_path):
    lesson = [*SMALL, "--set", "width=4", "--set", f"teacher={whole}"]
    taught = era(*lesson, "--out", "taught")
    assert taught.returncode == 0 and len(json.loads((tmp_path/"taught"/"recipe.json").read_text())["run"]["taught_by"]) == 64, taught.stderr
    process = subprocess.Popen([sys.executable, "-m", "era_resnet.cli", *lesson, "--out", "stopped"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for_first_epoch(process, tmp_path/"stopped")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    hidden = whole.rename(tmp_path/"elsewhere")
    lost = era("train", "--resume", "--out", "stopped")
    assert lost.returncode == 2 and f"there are no weights '{whole}'" in lost.stderr and "Traceback" not in lost.stderr
    shutil.copytree(tmp_path/"taught", whole)
    other = era("train", "--resume", "--out", "stopped")
    assert other.returncode == 2 and "was started with another teacher" in other.stderr, other.stderr
    shutil.rmtree(whole)
    hidden.rename(whole)
    resumed = era("train", "--resume", "--out", "stopped")
    assert resumed.returncode == 0, resumed.stderr
    same(tmp_path/"taught", tmp_path/"stopped")


def test_a_second_ctrl_c_ends_the_program_at_once(tmp_path):
    code = f"""
import sys, time
import era_resnet.train, era_resnet.cli
era_resnet.train.train_step = lambda *args: time.sleep(100)
sys.argv = ["era-resnet", *{SMALL!r}, "--out", {str(tmp_path/"twice")!r}]
era_resnet.cli.main()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path/"twice"/"checkpoint.pt").exists() and process.poll() is None: time.sleep(0.05)
    for _ in range(2):
        time.sleep(1)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "go on with" not in err, out + err
    assert not list((tmp_path/"twice").glob(".*.part")) and not (tmp_path/"twice"/"history.csv").exists()


def test_a_killed_run_goes_on_from_its_last_epoch(whole, era, tmp_path):
    process = subprocess.Popen([sys.executable, "-m", "era_resnet.cli", *SMALL, "--out", "killed"], cwd=tmp_path,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_first_epoch(process, tmp_path/"killed")
    process.kill()
    process.wait()
    assert era("train", "--resume", "--out", "killed").returncode == 0
    same(whole, tmp_path/"killed")


def test_a_run_killed_right_after_its_last_checkpoint_is_completed(whole, era):
    for name in ("history.csv", "metrics.json", "model.safetensors"): (whole/name).rename(whole/f"{name}.kept")
    assert era("train", "--resume", "--out", whole).returncode == 0
    for name in ("history.csv", "metrics.json"): assert (whole/name).read_bytes() == (whole/f"{name}.kept").read_bytes()
    first, second = load_file(whole/"model.safetensors"), load_file(whole/"model.safetensors.kept")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_folder_left_before_the_first_checkpoint_can_be_used_again(whole, era):
    for p in whole.iterdir():
        if p.is_file() and p.name not in ("recipe.json", "lr_find.csv"): p.unlink()
    assert era(*SMALL, "--out", whole).returncode == 0


def test_a_run_is_run_again_from_its_recipe(whole, era, tmp_path):
    assert era("train", "--recipe", whole/"recipe.json", "--out", "again").returncode == 0
    same(whole, tmp_path/"again")


def test_the_report_of_a_run_has_its_numbers(whole, era):
    text, metrics = (whole/"report.md").read_text(), json.loads((whole/"metrics.json").read_text())
    assert f"{metrics['test_acc']:.2%}" in text
    assert json.loads(era("evaluate", whole, "--json").stdout)["acc"] == metrics["test_acc"]


def broken_pictures(tmp_path, change):
    "A small folder of pictures with something wrong in it"
    from PIL import Image
    for split in ("train", "test"):
        for k, name in enumerate(("cat", "dog")):
            (tmp_path/"pets"/split/name).mkdir(parents=True)
            for i in range(4): Image.new("RGB", (32, 32), (60*k, 50*i, 9)).save(tmp_path/"pets"/split/name/f"{i}.png")
    change(tmp_path/"pets")
    return tmp_path/"pets"


def empty_class(folder): (folder/"train"/"cow").mkdir()
def not_a_picture(folder): (folder/"train"/"cat"/"x.png").write_text("miaow")
def cut_picture(folder): (p := folder/"test"/"dog"/"0.png").write_bytes(p.read_bytes()[:40])
def no_test_pictures(folder): [p.unlink() for p in (folder/"test"/"dog").iterdir()]


@pytest.mark.parametrize("change, says", [(empty_class, "train/cow holds no pictures"), (not_a_picture, "x.png is no picture"),
                                          (cut_picture, "0.png is no picture"), (no_test_pictures, "test/dog holds no pictures")])
def test_a_broken_folder_ends_in_one_sentence(era, tmp_path, change, says):
    result = era("train", "--data", broken_pictures(tmp_path, change), "--out", "run")
    assert result.returncode == 2 and says in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path/"run").exists(), "nothing half-written"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_folder_without_permission_ends_in_one_sentence(era, tmp_path):
    (tmp_path/"locked").mkdir(mode=0o500)
    result = era(*SMALL, "--out", tmp_path/"locked"/"run")
    assert result.returncode == 2 and "can't be written to" in result.stderr


def test_without_a_network_cifar10_says_what_to_do(era, tmp_path):
    env = dict(os.environ, ERA_RESNET_CACHE=str(tmp_path/"cache"), https_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9")
    result = era("train", "--data", "cifar10", env=env)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert all(words in result.stderr for words in (str(tmp_path/"cache"), "--data PATH", "--data synthetic"))


def test_two_classes_train_too(era, tmp_path):
    result = era("train", "--recipe", "quickstart", "--data", broken_pictures(tmp_path, lambda folder: None), "--epochs", 2, "--batch-size", 4,
                 "--set", "width=4", "--set", "lr_min=1e-4", "--set", "lr_max=1e-3", "--set", "precision=fp32", "--out", "pets-run")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path/"pets-run"/"recipe.json").read_text())["num_classes"] == 2


def test_the_python_of_readme_runs(top, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippet, = re.findall(r"```python\n(.*?)```", (top/"README.md").read_text(encoding="utf-8"), re.S)
    names = {}
    exec(snippet, names)
    assert names["run"].metrics["test_acc"] > 0.9 and (tmp_path/"runs"/"quickstart"/"report.md").exists()


def commands_in_prose(top):
    "Every line of README and of the chapters' prose that calls the program"
    pages = [(top/"README.md").read_text(encoding="utf-8"), (top/"CONTRIBUTING.md").read_text(encoding="utf-8")]
    pages += [c.source for p in (top/"nbs").rglob("*.ipynb") for c in nbformat.read(p, 4).cells if c.cell_type == "markdown"]
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", "\n".join(pages), re.S))
    return [line.split("#")[0] for line in re.findall(r"era-resnet ([a-z-]+(?: [^\n&]*)?)", blocks)], re.findall(r"python ((?:nbs|tests|benchmarks|results)/[\w/]+\.py)", "\n".join(pages))


def test_every_command_shown_is_known_with_its_options(top, era):
    calls, scripts = commands_in_prose(top)
    assert len(calls) > 10 and len(scripts) > 5
    for script in scripts: assert (top/script).is_file(), script
    says = {}
    for call in calls:
        command, options = call.split()[0], re.findall(r"(?<!\S)--[a-z-]+", call)
        if command not in says:
            result = era(command, "--help")
            assert result.returncode == 0, call
            says[command] = result.stdout
        for option in options: assert option in says[command], call


def test_the_first_step_begins_soon(top, tmp_path):
    "What a run does before its first step takes less time than PyTorch takes to start (its import and its first optimiser)"
    code = f"""
import sys, time
start = time.perf_counter()
import torch
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
between = time.perf_counter()
import era_resnet.train, era_resnet.cli
class Begun(Exception): pass
def begin(*args): raise Begun
era_resnet.train.train_step = begin
sys.argv = ["era-resnet", "train", "--data", "synthetic", "--set", "lr_min=1e-4", "--set", "lr_max=1e-3", "--set", "precision=fp32", "--out", {str(tmp_path/"run")!r}]
try: era_resnet.cli.main()
except Begun: print((time.perf_counter() - between)/(between - start))
assert "matplotlib" not in sys.modules and "albumentations" not in sys.modules and "torchvision" not in sys.modules
"""
    shares = []
    for attempt in range(3):
        shutil.rmtree(tmp_path/"run", ignore_errors=True)
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr[-2000:]
        shares.append(float(result.stdout.split()[-1]))
    assert min(shares) < 1, shares
