"""The people of a real CVAT, tried on the fake one, so that they are ready when there is a real one."""

from __future__ import annotations

import pytest
from cvat_live_harness import PREFIX, CvatLiveHarness, LiveCvat
from fakes.cvat_server import FakeCvat
from harness import Photo

from bridge.core.annotations import Box

CAT, DOG, FREE = Box(16, 16, 80, 64), Box(200, 100, 300, 180, 30), Box(400, 180, 500, 250)


@pytest.mark.parametrize("version", ["2.15", "2.27", "2.80"])
def test_what_people_do_arrives_and_goes_again(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeCvat(version) as server:
        server.add_user("root", is_superuser=True)
        for name, value in {"URL": server.url, "USER": "root", "PASSWORD": "secret"}.items():
            monkeypatch.setenv(PREFIX + name, value)
        with LiveCvat.from_environment() as live:
            harness = CvatLiveHarness(live, [Photo(((("cat", CAT), ("dog", DOG)),)), Photo()])
            first, second = harness.tool.read_page(None, 5).records
            (submission,) = first.submissions
            assert [(a.label, a.shape) for a in submission.annotations] == [("cat", CAT), ("dog", DOG)]
            assert submission.annotator.startswith("annotator-")
            assert (first.item.name, second.submissions) == ("photo 0.png", ())
            before = harness.raw(submission.id)
            harness.edit(submission.id, add=[("cat", FREE)], drop=[submission.annotations[0].id], relabel="cat")
            (now,) = harness.again().read_records({first.item.id})[first.item.id].submissions
            assert [(a.label, a.shape) for a in now.annotations] == [("cat", DOG), ("cat", FREE)]
            assert before.keys() - harness.raw(submission.id).keys() == {submission.annotations[0].id}
        assert server.state.projects == {}
        assert [user.name for user in server.state.users.values()] == ["root"]


def test_several_people_at_one_frame() -> None:
    with FakeCvat("2.80") as server:
        server.add_user("root", is_superuser=True)
        with LiveCvat(server.url, "root", "secret") as live:
            harness = CvatLiveHarness(live, [Photo(((("cat", CAT),), ()))])
            (record,) = harness.tool.read_page(None, 5).records
            assert [len(s.annotations) for s in record.submissions] == [1, 0]


def test_without_a_server_there_is_nothing_to_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PREFIX + "URL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=PREFIX + "URL"):
        LiveCvat.from_environment()
