"""Damaged and hostile files: only our own clear error may come out.

`FUZZ_CASES=100000 pytest tests/test_fuzz.py` tries more than the usual 500 a reader."""
import io
import json
import os
import tarfile
import zipfile
from dataclasses import asdict, fields

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from era_resnet.data import InputError, decode_folders, members, read_image, synthetic
from era_resnet.data import _load_cache, _save_cache
from era_resnet.train import RECIPES, Recipe, change_recipe, create_model, load_checkpoint, load_weights, read_recipe, recipe_from, save_checkpoint, save_weights

many = settings(max_examples=int(os.environ.get("FUZZ_CASES", 500)), deadline=None, database=None, derandomize="FUZZ_CASES" not in os.environ,
                suppress_health_check=list(HealthCheck))
places, values = st.floats(0, 1, exclude_max=True), st.integers(0, 255)
edits = st.lists(st.tuples(st.sampled_from(["set", "cut", "insert", "remove", "repeat"]), places, values), min_size=1, max_size=6)


def damaged(content, changes):
    "Bytes set, put in, taken out, repeated or cut off"
    content = bytearray(content)
    for kind, place, value in changes:
        i = int(place*len(content))
        if kind == "set" and content: content[i] = value
        elif kind == "cut": del content[i:]
        elif kind == "insert": content[i:i] = bytes([value]*(value % 17))
        elif kind == "remove": del content[i:i + value % 17]
        else: content[i:i] = content[i:i + value]
    return bytes(content)


def picture(kind, mode="RGB"):
    "A small file"
    file = io.BytesIO()
    Image.effect_mandelbrot((32, 32), (-2, -2, 2, 2), 20).convert(mode).save(file, kind)
    return file.getvalue()


FILES = {f"any/{split}/{name}/{i}.png": picture("PNG") for split in ("train", "test") for name in ("cat", "dog") for i in range(2)}


def tarred(mode):
    "An archive of the files"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped():
    "An archive of the files"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items(): archive.writestr(name, content)
    return out.getvalue()


ARCHIVES = [tarred("w"), tarred("w:gz"), tarred("w:xz"), tarred("w:bz2"), zipped()]


@pytest.fixture(scope="module")
def place(tmp_path_factory): return tmp_path_factory.mktemp("fuzz")


def only_our_error(read, path, content):
    "Read a file; gives what came of it, or None"
    path.write_bytes(content)
    try: return read(path)
    except InputError as e: assert len(str(e)) > 20 and "\n" not in str(e).strip()


@many
@given(st.sampled_from(ARCHIVES), edits)
def test_damaged_archives(place, archive, changes):
    before = set(place.iterdir())
    only_our_error(lambda p: list(members(p)), place/"archive", damaged(archive, changes))
    only_our_error(decode_folders, place/"archive", damaged(archive, changes))
    assert set(place.iterdir()) <= before | {place/"archive"}, "nothing is unpacked to the disk"


@many
@given(st.binary(max_size=3000))
def test_any_bytes_as_an_archive(place, content):
    only_our_error(decode_folders, place/"bytes", content)


@many
@given(st.text(max_size=60), st.sampled_from(list(FILES.values())))
def test_any_name_in_an_archive(place, name, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    only_our_error(decode_folders, place/"named", out.getvalue())


@many
@given(st.sampled_from([picture("PNG"), picture("JPEG"), picture("GIF", "P"), picture("BMP"), picture("WEBP"), picture("TIFF")]), edits)
def test_damaged_pictures(content, changes):
    try: array, _ = read_image(damaged(content, changes))
    except InputError: return
    assert array.shape == (32, 32, 3) and array.dtype == "uint8"


@pytest.fixture(scope="module")
def saved(place):
    "A checkpoint, weights and a cached data set"
    model = create_model(change_recipe(RECIPES["quickstart"], width=1))
    save_checkpoint(place/"c.pt", dict(model=model.state_dict(), history=[dict(epoch=1)]))
    save_weights(place/"w.safetensors", model, dict(classes=["a", "b"]))
    _save_cache(place/"d.safetensors", synthetic(20, 10))
    return {p.name: p.read_bytes() for p in place.glob("?.*")}


@many
@given(edits)
def test_damaged_checkpoints(place, saved, changes):
    state = only_our_error(load_checkpoint, place/"x.pt", damaged(saved["c.pt"], changes))
    if state is not None: assert all(torch.equal(a, b) for a, b in zip(state["model"].values(), load_checkpoint(place/"c.pt")["model"].values()))


@many
@given(edits)
def test_damaged_weights(place, saved, changes):
    found = only_our_error(load_weights, place/"x.safetensors", damaged(saved["w.safetensors"], changes))
    if found is not None: assert all(torch.equal(found[0][k], v) for k, v in load_weights(place/"w.safetensors")[0].items())


@many
@given(edits)
def test_damaged_cache(place, saved, changes):
    (place/"y.safetensors").write_bytes(damaged(saved["d.safetensors"], changes))
    found = _load_cache(place/"y.safetensors", "drawn")
    if found is not None: assert (found.train.images == synthetic(20, 10).train.images).all()


plain = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))
named = st.dictionaries(st.sampled_from([f.name for f in fields(Recipe)]) | st.text(max_size=9), plain, max_size=6)


@many
@given(named)
def test_any_fields_of_a_recipe(values):
    try: recipe = recipe_from(values)
    except InputError: return
    assert recipe_from(json.loads(json.dumps(asdict(recipe)))) == recipe


@many
@given(st.binary(max_size=300) | named.map(lambda v: json.dumps(v).encode()))
def test_any_file_as_a_recipe(place, content):
    only_our_error(read_recipe, place/"r.json", content)


@many
@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_settings(settings):
    try: change_recipe(RECIPES["quickstart"], settings)
    except InputError: pass
