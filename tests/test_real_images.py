"A short training on real images, if the variable ERA_RESNET_DATA names an archive of them"
import json
import os
import time

import pytest

ARCHIVE = os.path.abspath(os.environ.get("ERA_RESNET_DATA", "none"))
pytestmark = pytest.mark.skipif("ERA_RESNET_DATA" not in os.environ, reason="ERA_RESNET_DATA names no archive of real images")


def test_a_quarter_of_the_width_beats_45_percent_on_real_images(era, tmp_path):
    result = era("train", "--recipe", "quickstart", "--data", ARCHIVE, "--limit", 10_000, "--epochs", 3, "--batch-size", 128,
                 "--out", "real")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path/"real"/"metrics.json").read_text())
    assert metrics["data"] == "CIFAR-10 (JPEG copies)" and metrics["test_acc"] > 0.45, metrics
    assert (tmp_path/"real"/"images"/"grad_cam.png").exists()


def test_decoded_pictures_load_in_half_a_second():
    from era_resnet.data import load_data
    load_data(ARCHIVE)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(load_data(ARCHIVE).train) == 50_000
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5, seconds


def test_published_weights_do_on_a_sample_what_is_said_of_them():
    from era_resnet.data import load_data
    from era_resnet.train import evaluate
    from era_resnet.zoo import PRETRAINED, load_pretrained
    sample = load_data(ARCHIVE).test.take(slice(None, None, 10))
    for name in PRETRAINED:
        model = load_pretrained(name)
        said, found = model.about["test_acc"], evaluate(model.network, sample, model.about["stats"]).acc
        assert abs(found - said) < 4*(said*(1 - said)/len(sample))**0.5, (name, said, found)
