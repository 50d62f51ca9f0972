"""Make what the page needs and the repository doesn't hold: `python nbs/demo/build.py`.

Into nbs/demo/built/ go the compact network as ONNX with its class activation maps, what is known of it, and the files of
ONNX Runtime that run it in a browser, from the npm registry, checked by SHA-256 and kept in the cache of the package."""
import hashlib
import json
import sys
import tarfile
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from era_resnet.data import InputError, cache_dir, download, synthetic
from era_resnet.zoo import Classifier, load_pretrained

OUT = Path(__file__).resolve().parent/"built"
RUNTIME = "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.27.0.tgz"
RUNTIME_SHA256 = "b59c9819434a7519f334f77e8d4bf22b69808d531a57724cabc4bb2c0704c835"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class WithMaps(nn.Module):
    "Logits N×10 and class activation maps N×10×4×4 of pictures uint8 N×32×32×3. Source: Zhou et al. 2016, section 2."
    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images):
        net = self.model.network
        features = net.c4(net.c3(net.c2(net.c1(self.model.normalised(images)))))
        return net.fc(net.pool(features).flatten(1)), nn.functional.conv2d(features, net.fc.weight[:, :, None, None])


def write_network(path):
    "Export, and compare with PyTorch"
    model = load_pretrained("compact")
    both, images = WithMaps(model).eval(), torch.from_numpy(synthetic(10, 100).test.images)
    options = dict(input_names=["images"], output_names=["logits", "maps"], dynamic_shapes=({0: torch.export.Dim("n", min=1)},), external_data=False, verbose=False)
    torch.onnx.export(both, (images[:2],), path, dynamo=True, **options)
    got = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["logits", "maps"], {"images": images.numpy()})
    with torch.no_grad(): expected = both(images)
    for a, b in zip(got, expected): torch.testing.assert_close(torch.from_numpy(a), b, rtol=0, atol=1e-4)
    torch.testing.assert_close(expected[1].mean((2, 3)) + model.network.fc.bias, model(images), rtol=0, atol=1e-4)
    about = dict(classes=model.classes, test_acc=model.about["test_acc"], data=model.about["data"])
    (path.parent/"model.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def write_runtime(folder):
    "Fetch the package once, and take three files out"
    with tarfile.open(download([RUNTIME], RUNTIME_SHA256, cache_dir())) as tar:
        for name in FILES: (folder/name).write_bytes(tar.extractfile(f"package/dist/{name}").read())


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    try: write_runtime(OUT)
    except InputError as e:
        print(e, file=sys.stderr)
        sys.exit(2)
    write_network(OUT/"compact.onnx")
    for p in sorted(OUT.iterdir()): print(f"{p.stat().st_size:>10,} {hashlib.sha256(p.read_bytes()).hexdigest()[:12]} {p.name}")
