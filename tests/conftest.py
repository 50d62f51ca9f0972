"What the tests share"
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    "No progress bars, no look for updates"
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture
def top():
    "The folder of the repository"
    return TOP


@pytest.fixture
def era(tmp_path):
    "Run the program in an empty folder: `era('train', '--epochs', 2)`"
    def run(*words, **options):
        command = [sys.executable, "-m", "era_resnet.cli", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, **options)
    return run
