"Runs that are killed at 20 random moments end as if nothing had happened"
from concurrent.futures import ThreadPoolExecutor

from kill_campaign import campaign


def test_twenty_kills(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1") # two campaigns side by side, with a core each

    def ten(seed, way):
        (tmp_path/str(seed)).mkdir()
        return campaign(10, seed, tmp_path/str(seed), ways=(way,))

    with ThreadPoolExecutor(2) as pool: counts = list(pool.map(ten, (1, 2), ("fast", "albumentations, 2 workers")))
    assert all(c["kills"] == 10 and c["finished"] >= 3 and c["differ"] == 0 for c in counts), counts
