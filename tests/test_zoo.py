"Trained weights, predictions and other forms of a network, as people use them"
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from era_resnet import zoo
from era_resnet.data import InputError, load_data, synthetic

REAL = os.environ.get("ERA_RESNET_DATA")


@pytest.fixture
def server():
    "A local server that gives `server.content` for any address, and counts"
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            running.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(running.content)))
            self.end_headers()
            self.wfile.write(running.content)
        def log_message(self, *args): pass
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.asked, running.content = 0, b""
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()


@pytest.fixture
def published(server, monkeypatch, tmp_path):
    "Weights that are not part of the package: `far` is to be fetched from the server"
    server.content = zoo.find_weights("compact").read_bytes()
    monkeypatch.setitem(zoo.PRETRAINED, "far", hashlib.sha256(server.content).hexdigest())
    monkeypatch.setattr(zoo, "_published_at", lambda name: f"http://127.0.0.1:{server.server_port}/{name}.safetensors")
    monkeypatch.setenv("ERA_RESNET_CACHE", str(tmp_path/"cache"))
    return server


def test_weights_are_fetched_once_and_kept(published, tmp_path):
    for _ in range(2): assert zoo.load_pretrained("far").classes[3] == "cat"
    assert published.asked == 1 and list((tmp_path/"cache"/"weights").iterdir())


def test_other_bytes_from_the_server_are_refused(published, tmp_path):
    published.content = published.content[:-1] + b"?"
    with pytest.raises(InputError, match="far are not here and could not be fetched"): zoo.load_pretrained("far")
    assert not list((tmp_path/"cache").rglob("*.safetensors"))


def test_without_a_network_a_sentence_says_what_to_do(published):
    published.shutdown()
    published.server_close()
    with pytest.raises(InputError, match="name a file or a run folder in their place, or train them"): zoo.load_pretrained("far")


def test_packaged_weights_are_those_that_are_listed(top):
    content = (top/"era_resnet"/"weights"/"compact.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == zoo.PRETRAINED["compact"] and len(content) < 800_000
    about = zoo.load_pretrained("compact").about
    metrics = json.loads((top/"results"/"compact"/f"seed-{about['recipe']['seed']}"/"metrics.json").read_text())
    assert about["test_acc"] == metrics["test_acc"] and about["fingerprint"] == metrics["fingerprint"]


def test_weights_of_the_clone_are_those_that_are_listed(top):
    path = top/"weights"/"custom-resnet.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == zoo.PRETRAINED["custom-resnet"] and zoo.find_weights("custom-resnet") == path
    about, metrics = zoo.load_pretrained("custom-resnet").about, json.loads((top/"results"/"custom-resnet"/"seed-0"/"metrics.json").read_text())
    assert about["test_acc"] == metrics["test_acc"] >= 0.9 and about["fingerprint"] == metrics["fingerprint"]


def test_a_changed_byte_anywhere_is_noticed(tmp_path):
    content, chance = zoo.find_weights("compact").read_bytes(), np.random.default_rng(0)
    path, header = tmp_path/"changed.safetensors", int.from_bytes(content[:8], "little")
    for place in [*range(8), *chance.integers(8, 8 + header, 100), *chance.integers(8 + header, len(content), 30)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << chance.integers(8))]) + content[place + 1:])
        with pytest.raises(InputError, match=str(path)): zoo.load_pretrained(path)


def test_a_header_that_asks_for_too_much_costs_nothing(tmp_path):
    from era_resnet.train import load_weights, save_weights
    weights, about = load_weights(zoo.find_weights("compact"))
    class Same: state_dict = staticmethod(lambda: weights)
    for field, value in (("width", 10**7), ("network", "vgg"), ("width", "wide"), ("num_classes", 10**9)):
        save_weights(tmp_path/"x.safetensors", Same, dict(about, recipe=dict(about["recipe"], **{field: value})))
        with pytest.raises(InputError, match="another network"): zoo.load_pretrained(tmp_path/"x.safetensors")


@pytest.mark.parametrize("field, value", [("classes", ["cat"]), ("classes", ["x"]*11), ("classes", list(range(10))), ("classes", None), ("classes", "aeroplanes"),
                                          ("stats", [[0.5]*3]*3), ("stats", [["a"]*3]*2), ("stats", [[0.5]*3, [0.0]*3]), ("stats", None)])
def test_a_header_that_does_not_fit_is_refused(tmp_path, field, value):
    from era_resnet.train import load_weights, save_weights
    weights, about = load_weights(zoo.find_weights("compact"))
    class Same: state_dict = staticmethod(lambda: weights)
    save_weights(tmp_path/"x.safetensors", Same, about | {field: value})
    with pytest.raises(InputError, match="no classes or no statistics that fit"): zoo.load_pretrained(tmp_path/"x.safetensors")


@pytest.mark.skipif(not REAL, reason="ERA_RESNET_DATA names no archive of real images")
def test_accuracy_of_the_packaged_weights_is_the_one_that_is_told():
    from era_resnet.analysis import judge
    model, test = zoo.load_pretrained("compact"), load_data(REAL).test
    assert judge(model.network, test, model.stats, model.classes)["acc"] == pytest.approx(model.about["test_acc"], abs=5e-4)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_exported_network_agrees_on_a_thousand_pictures(form, tmp_path):
    images = load_data(REAL).test.images[:1000] if REAL else synthetic(10, 1000).test.images
    difference = zoo.export(zoo.load_pretrained("compact"), tmp_path/f"compact.{form}", form, images)
    assert difference < 1e-4 and (tmp_path/f"compact.{form}").stat().st_size < 2_000_000
    assert [p.name for p in tmp_path.iterdir()] == [f"compact.{form}"], "one file, and nothing beside it"


def test_bad_pictures_do_not_hide_good_ones(era, tmp_path):
    folder = tmp_path/"pictures"
    folder.mkdir()
    good = Image.fromarray(synthetic(10, 10).test.images[0]).resize((200, 100))
    good.save(folder/"good.png")
    good.convert("CMYK").save(folder/"print.jpg")
    whole = (folder/"good.png").read_bytes()
    (folder/"cut.png").write_bytes(whole[:len(whole)//2])
    (folder/"letter.jpg").write_bytes(b"Dear picture,")
    (folder/"nothing.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(folder/"dot.png")
    Image.new("1", (20_000, 20_000)).save(folder/"bomb.png")
    (tmp_path/"bare").mkdir()
    result = era("predict", folder, "bare", "--top", 2, "--json")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert [p["file"].rsplit("/")[-1] for p in json.loads(result.stdout)] == ["good.png", "print.jpg"]
    said = result.stderr.strip().splitlines()
    assert len(said) == 6 and all(line.startswith("era-resnet: ") for line in said)
    for name in ("cut.png", "letter.jpg", "nothing.png", "dot.png", "bomb.png", "bare"): assert sum(name in line for line in said) == 1, name


def test_predict_says_the_same_however_a_picture_comes(tmp_path):
    img = Image.fromarray(synthetic(10, 10).test.images[0]).resize((90, 64))
    img.save(tmp_path/"a.png")
    img.save(tmp_path/"b.webp", lossless=True)
    model = zoo.load_pretrained("compact")
    answers = zoo.predict([img, tmp_path/"a.png", tmp_path/"b.webp", np.asarray(img), torch.from_numpy(np.array(img)).permute(2, 0, 1)], model)
    assert len({a.labels for a in answers}) == 1 and np.ptp([a.probabilities[0] for a in answers]) < 1e-6


def test_missing_extras_are_said_in_a_sentence(tmp_path):
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, *args):
        if name.split('.')[0] in ('onnx', 'onnxscript', 'onnxruntime', 'huggingface_hub'): raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Refuse())
from era_resnet.zoo import export, hub_class, load_pretrained
from era_resnet.data import InputError
for ask in (lambda: export(load_pretrained('compact'), {str(tmp_path/'x.onnx')!r}), hub_class):
    try: ask()
    except InputError as e: print(e)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    onnx, hub = result.stdout.splitlines()
    assert "'era-resnet[export]'" in onnx and "'era-resnet[hub]'" in hub and not list(tmp_path.iterdir())


def test_wheel_brings_the_weights(top, tmp_path):
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, top], check=True, capture_output=True)
    wheel, = tmp_path.glob("*.whl")
    content = zipfile.ZipFile(wheel).read("era_resnet/weights/compact.safetensors")
    assert hashlib.sha256(content).hexdigest() == zoo.PRETRAINED["compact"]
