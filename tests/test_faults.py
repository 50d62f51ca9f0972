"What can go wrong with a run, done to it on purpose: the rows of the table in nbs/faults.ipynb"
import errno
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import era_resnet.data
import era_resnet.train as training
from era_resnet.data import ImageSet, InputError, load_data
from era_resnet.train import Diverged, Interrupted, Recipe, create_model, fit, load_checkpoint, load_run, read_csv

RECIPE = Recipe(name="fault", width=4, data="synthetic", limit=200, epochs=2, peak_epoch=1, batch_size=50, lr_min=1e-4, lr_max=3e-3,
                precision="fp32", deterministic=True)


@pytest.fixture(scope="module")
def data():
    "200 drawn pictures to learn from"
    return load_data("synthetic", limit=200)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    "The run that nothing happened to"
    return fit(create_model(RECIPE), data, RECIPE, tmp_path_factory.mktemp("whole")/"run")


def same(run, whole):
    "Equal weights, history and metrics, but for the seconds"
    bare = lambda rows: [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
    assert bare(run.history) == bare(whole.history) and bare([run.metrics]) == bare([whole.metrics])
    assert all(torch.equal(a, b) for a, b in zip(run.model.state_dict().values(), whole.model.state_dict().values()))


def go_on(folder, data):
    "Resume a run to its end"
    return fit(create_model(RECIPE), data, RECIPE, folder, resume=True)


def test_disk_full_at_each_write(data, whole, tmp_path, monkeypatch):
    flush, calls = era_resnet.data._flush, []
    def full(path):
        calls.append(path)
        if len(calls) == fail_at: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(path)
    monkeypatch.setattr(era_resnet.data, "_flush", full)
    fail_at = 0
    fit(create_model(RECIPE), data, RECIPE, tmp_path/"count")
    writes = len(calls)
    assert writes >= 14, "a file and its folder for each of recipe, checkpoints, history, weights, metrics"
    for fail_at in range(1, writes + 1):
        calls.clear()
        folder = tmp_path/str(fail_at)
        with pytest.raises(InputError, match="can't be written .No space left"): fit(create_model(RECIPE), data, RECIPE, folder)
        assert not list(folder.glob(".*.part")) if folder.exists() else True, "nothing is half written"
        calls.clear()
        fail_at = 0
        same(go_on(folder, data) if (folder/"checkpoint.pt").exists() else fit(create_model(RECIPE), data, RECIPE, folder), whole)


def test_disk_really_full(data, tmp_path):
    "A file system of 300 KiB, if this machine lets us make one"
    small = tmp_path/"small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", small], capture_output=True).returncode: pytest.skip("no right to mount")
    try:
        with pytest.raises(InputError, match="can't be written .No space left on device"):
            fit(create_model(replace(RECIPE, width=16)), data, replace(RECIPE, width=16), small/"run")
        assert not list((small/"run").glob(".*.part")) and json.loads((small/"run"/"recipe.json").read_text())["width"] == 16
    finally: subprocess.run(["umount", small], check=True)


def test_read_only_folder(era, tmp_path):
    file = tmp_path/"file"
    file.write_text("not a folder")
    result = era("train", "--recipe", "quickstart", "--limit", 100, "--out", file/"run")
    assert result.returncode == 2 and "can't be written to" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("damage", ["flipped byte", "cut off", "empty"])
def test_damaged_checkpoint(data, whole, tmp_path, damage):
    shutil.copytree(whole.folder, tmp_path/"run")
    path = tmp_path/"run"/"checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content)//2] ^= 1
    path.write_bytes(dict([("flipped byte", content), ("cut off", content[:999]), ("empty", b"")])[damage])
    with pytest.raises(InputError, match="checkpoint.pt .*(damaged|can't be read)"): go_on(tmp_path/"run", data)


def test_checkpoint_that_is_not_readable_never_replaces_the_old_one(tmp_path, monkeypatch):
    training.save_checkpoint(tmp_path/"c.pt", dict(a=torch.ones(9999)))
    save = torch.save
    def damaged(value, file):
        save(value, file)
        file.getbuffer()[file.getbuffer().nbytes//2] ^= 255
    monkeypatch.setattr(torch, "save", damaged)
    with pytest.raises(InputError): training.save_checkpoint(tmp_path/"c.pt", dict(a=torch.zeros(9999)))
    assert load_checkpoint(tmp_path/"c.pt")["a"].min() == 1


def test_two_runs_in_one_folder(data, tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from era_resnet.train import _locked
folder = Path({str(tmp_path)!r})/"run"
folder.mkdir()
with _locked(folder): print("held", flush=True); time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"is in use by process {other.pid} on"): fit(create_model(RECIPE), data, RECIPE, tmp_path/"run")
    other.kill()
    other.wait()
    assert fit(create_model(RECIPE), data, RECIPE, tmp_path/"run").metrics["epochs"] == 2, "the lock of a dead process is free"


def test_full_history_of_another_run(data, whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path/"run")
    before = (tmp_path/"run"/"history.csv").read_bytes()
    with pytest.raises(InputError, match="holds a run already"): fit(create_model(RECIPE), data, RECIPE, tmp_path/"run")
    assert (tmp_path/"run"/"history.csv").read_bytes() == before


def test_loading_process_dies(data, whole, tmp_path, monkeypatch):
    recipe = replace(RECIPE, loader="albumentations", workers=1)
    step, calls = training.train_step, []
    def murder(*args):
        calls.append(1)
        if len(calls) == 6:
            import multiprocessing
            for child in multiprocessing.active_children(): os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.5)
        return step(*args)
    monkeypatch.setattr(training, "train_step", murder)
    many = load_data("synthetic", limit=1000)
    with pytest.raises(InputError, match="a process that loads pictures died .*--set workers=0"):
        fit(create_model(recipe), many, replace(recipe, limit=1000), tmp_path/"run")
    monkeypatch.undo()
    resumed = fit(create_model(recipe), many, replace(recipe, limit=1000, workers=0), tmp_path/"run", resume=True)
    same(resumed, fit(create_model(recipe), many, replace(recipe, limit=1000, workers=0), tmp_path/"whole"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_is_not_finite(data, tmp_path, monkeypatch, value):
    real, calls = training.F.cross_entropy, []
    def broken(*args, **kwargs):
        calls.append(1)
        return real(*args, **kwargs)*(value if len(calls) == 6 else 1)
    monkeypatch.setattr(training.F, "cross_entropy", broken)
    with pytest.raises(Diverged, match="step"): fit(create_model(RECIPE), data, RECIPE, tmp_path/"run")
    kept = load_checkpoint(tmp_path/"run"/"checkpoint.pt")
    assert kept["epoch"] == 1 and all(torch.isfinite(v.float()).all() for v in kept["model"].values()), "the finished epoch is kept"


@pytest.mark.parametrize("step", [2, 8])
def test_gradient_is_not_finite(data, tmp_path, monkeypatch, step):
    "In the middle, the next loss tells; after the last step, the answers of the network do"
    real, calls = training.train_step, []
    def poisoned(model, *args):
        calls.append(1)
        out = real(model, *args)
        if len(calls) == step: next(model.parameters()).data[0] = math.nan
        return out
    monkeypatch.setattr(training, "train_step", poisoned)
    with pytest.raises(InputError, match="lower lr_max"): fit(create_model(RECIPE), data, RECIPE, tmp_path/"run")
    assert all(torch.isfinite(v.float()).all() for v in load_checkpoint(tmp_path/"run"/"checkpoint.pt")["model"].values())


def test_out_of_memory(data, tmp_path, monkeypatch):
    def greedy(*args): raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    monkeypatch.setattr(training, "train_step", greedy)
    with pytest.raises(InputError, match="not enough memory for batches of 50; try --batch-size 25"): fit(create_model(RECIPE), data, RECIPE, tmp_path/"run")


def test_clock_goes_backwards(data, tmp_path, monkeypatch):
    now = [1e9]
    def back(): now[0] -= 3600; return now[0]
    monkeypatch.setattr(time, "time", back)
    assert all(row["seconds"] > 0 for row in fit(create_model(RECIPE), data, RECIPE, tmp_path/"run").history)


def test_checkpoints_in_the_middle_of_an_epoch(data, whole, tmp_path, monkeypatch):
    "A process that dies without a word loses at most what came after the last checkpoint"
    recipe, step, calls = replace(RECIPE, save_steps=1), training.train_step, []
    def die(*args):
        calls.append(1)
        if len(calls) == 7: raise SystemExit
        return step(*args)
    monkeypatch.setattr(training, "train_step", die)
    with pytest.raises(SystemExit): fit(create_model(recipe), data, recipe, tmp_path/"run")
    monkeypatch.undo()
    saved = load_checkpoint(tmp_path/"run"/"checkpoint.pt")
    assert (saved["epoch"], saved["step"]) == (1, 2)
    same(fit(create_model(recipe), data, recipe, tmp_path/"run", resume=True), whole)


def test_second_ctrl_c_leaves_at_once(data, tmp_path, monkeypatch):
    def slow(*args):
        os.kill(os.getpid(), signal.SIGINT); time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT); time.sleep(5)
    monkeypatch.setattr(training, "train_step", slow)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as stopped: fit(create_model(RECIPE), data, RECIPE, tmp_path/"run")
    assert not isinstance(stopped.value, Interrupted) and time.monotonic() - start < 5
    assert not list((tmp_path/"run").glob(".*.part")) and load_checkpoint(tmp_path/"run"/"checkpoint.pt")["epoch"] == 0


def test_resume_refuses_what_has_changed(data, whole, tmp_path):
    shutil.copytree(whole.folder, tmp_path/"run")
    for changed, pictures, says in [(replace(RECIPE, lr_max=0.1), data, "started with lr_max=0.003, not 0.1"), (replace(RECIPE, epochs=4), data, "epochs=2, not 4"),
                                    (RECIPE, replace(data, fingerprint="f"*64), "other data")]:
        with pytest.raises(InputError, match=says): fit(create_model(RECIPE), pictures, changed, tmp_path/"run", resume=True)
    saved = load_checkpoint(tmp_path/"run"/"checkpoint.pt") | dict(torch="1.13.0")
    training.save_checkpoint(tmp_path/"run"/"checkpoint.pt", saved)
    with pytest.raises(InputError, match="PyTorch 1.13.0"): go_on(tmp_path/"run", data)
    (tmp_path/"run"/"checkpoint.pt").unlink()
    with pytest.raises(InputError, match="there is no checkpoint"): go_on(tmp_path/"run", data)


def test_wrong_labels_and_missing_classes(data, tmp_path):
    labels = data.train.labels.copy()
    labels[0] = 10
    for wrong, says in [(replace(data, train=ImageSet(data.train.images, labels)), "label of train picture 0 is 10"),
                        (replace(data, test=data.test.take(np.flatnonzero(data.test.labels != 3))), "no test picture of class 'disc'")]:
        with pytest.raises(InputError, match=says): fit(create_model(RECIPE), wrong, RECIPE, tmp_path/"run")
        assert not (tmp_path/"run").exists()


def test_weights_that_are_not_finite_are_not_kept(data, tmp_path, monkeypatch):
    recipe, real, calls = replace(RECIPE, save_steps=1), training.train_step, []
    def poisoned(model, *args):
        calls.append(1)
        out = real(model, *args)
        if len(calls) == 2: next(model.parameters()).data[0] = math.nan
        return out
    monkeypatch.setattr(training, "train_step", poisoned)
    with pytest.raises(Diverged, match="weights are not finite after step 2 of epoch 1"): fit(create_model(recipe), data, recipe, tmp_path/"run")
    assert load_checkpoint(tmp_path/"run"/"checkpoint.pt")["step"] == 1


def packed(*infos):
    "A tar archive of members without content"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info in infos: archive.addfile(info)
    return out.getvalue()


def member(name, **changes):
    "One of them"
    info = tarfile.TarInfo(name)
    for key, value in changes.items(): setattr(info, key, value)
    return info


@pytest.mark.parametrize("info, says", [
    (member("/etc/passwd"), "points outside"), (member("a/../../x.png"), "points outside"), (member("C:/x.png"), "points outside"),
    (member("train/cat/l.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link or a device"),
    (member("train/cat/h.png", type=tarfile.LNKTYPE, linkname="x"), "is a link or a device"),
    (member("train/cat/d.png", type=tarfile.CHRTYPE), "is a link or a device")])
def test_hostile_archives(tmp_path, info, says):
    (tmp_path/"a.tar").write_bytes(packed(info))
    with pytest.raises(InputError, match=says): era_resnet.data.decode_folders(tmp_path/"a.tar")
    with zipfile.ZipFile(tmp_path/"bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive: archive.writestr("train/cat/0.png", bytes(70*2**20))
    with pytest.raises(InputError, match="unpacks to 70 MiB"): era_resnet.data.decode_folders(tmp_path/"bomb.zip")
    assert {p.name for p in tmp_path.iterdir()} == {"a.tar", "bomb.zip"}


def test_gigapixels():
    header = b"IHDR" + (60_000).to_bytes(4, "big")*2 + b"\x08\x02\x00\x00\x00"
    png = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big") + b"\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e"
    with pytest.raises(InputError, match="60000×60000 pixels|decompression bomb"): era_resnet.data.read_image(png)


class Evil:
    "A pickle of it runs a command"
    def __reduce__(self): return os.system, ("touch owned",)


def test_pickles_that_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Evil(), tmp_path/"c.pt")
    (tmp_path/"w.safetensors").write_bytes((tmp_path/"c.pt").read_bytes())
    with pytest.raises(InputError): load_checkpoint(tmp_path/"c.pt")
    with pytest.raises(InputError): training.load_weights(tmp_path/"w.safetensors")
    assert not (tmp_path/"owned").exists()
