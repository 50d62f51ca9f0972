"A run that is killed at 20 random moments ends as if nothing had happened"
from kill_campaign import campaign


def test_twenty_kills(tmp_path):
    counts = campaign(20, seed=1, work=tmp_path, ways=("fast", "albumentations, 2 workers"))
    assert counts["kills"] == 20 and counts["finished"] >= 5 and counts["differ"] == 0, counts
