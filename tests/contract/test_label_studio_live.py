"""What only Label Studio has: two kinds of token, drafts, tabs, queues, and connections to a model server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.canned_server import CannedServer
from harness import Photo, finding
from hook_kit import SECRET, receiving
from label_studio_harness import LabelStudioHarness
from live import CONFIG, Studio

from bridge.core.annotations import Box, Item
from bridge.core.findings import ErrorType, Fix
from bridge.demo.label_studio_server import LabelStudioServer
from bridge.dialects.label_studio import parse_label_config
from bridge.errors import AuthError, ImageError, NotFound, ToolError
from bridge.service.set_up import remove_hooks, settle_hooks
from bridge.store import ReviewPlace, Store
from bridge.tools import FixOrder, FixResult, Outcome, ReviewCase
from bridge.tools.hooks import HookAddress
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_client import LabelStudioClient, Row, task_filter
from bridge.tools.label_studio_connect import Backend, connect, disconnect, probe

CAT, FREE = Box(16, 16, 80, 64), Box(400, 180, 500, 250)
PAIR = """<View><Image name="image" value="$image"/><Labels name="name" toName="image"><Label value="cat"/>
<Label value="dog"/></Labels><Rectangle name="place" toName="image"/></View>"""


@pytest.fixture
def cat(studio: Studio) -> LabelStudioHarness:
    return LabelStudioHarness(studio, [Photo(((("cat", CAT),),))])


def add(harness: LabelStudioHarness) -> FixOrder:
    record = harness.tool.read_page(None, 1).records[0]
    fix = Fix("add", "dog", FREE)
    return FixOrder(finding(harness.tool, record, ErrorType.MISSING, fix), fix)


class TestTokens:
    def test_both_kinds_work(self, label_studio: LabelStudioServer) -> None:
        for token in (label_studio.token, label_studio.legacy_token):
            client = LabelStudioClient(label_studio.url, token)
            assert client.whoami()["email"] == label_studio.email
            client.close()

    def test_a_wrong_token_is_refused_with_what_to_do(self, label_studio: LabelStudioServer) -> None:
        forged = label_studio.token[:-4] + "abcd"
        for token, words in ((forged, "personal-access-token"), ("0" * 40, "Invalid token")):
            with pytest.raises(AuthError, match=words) as caught:
                LabelStudioClient(label_studio.url, token).project(1)
            assert token not in str(caught.value)

    def test_an_access_token_that_ends_midway_is_renewed(self, cat: LabelStudioHarness) -> None:
        page = cat.tool.read_page(None, 1)
        head, _, signature = cat.client._auth._access.split(".")
        ended = base64.urlsafe_b64encode(json.dumps({"token_type": "access", "exp": 1, "iat": 0}).encode()).decode()
        cat.client._auth._access = f"{head}.{ended.rstrip('=')}.{signature}"
        before = cat.requests_made()
        assert cat.tool.read_page(None, 1) == page
        assert cat.requests_made() - before == 3

    def test_an_unknown_project(self, ls_client: LabelStudioClient) -> None:
        with pytest.raises(NotFound, match="No Project matches"):
            LabelStudio(ls_client, 987654).describe()


class TestImages:
    def test_uploads_and_their_names(self, cat: LabelStudioHarness) -> None:
        import requests

        auth = dict(cat.client._auth.headers())
        files = {"file": ("a b.png", (cat.project.images / "photo 0.png").read_bytes())}
        url = f"{cat.client.url}/api/projects/{cat.project.id}/import"
        assert requests.post(url, headers=auth, files=files, timeout=60).status_code == 201
        record = cat.tool.read_page(cat.project.tasks[-1].__str__(), 1).records[0]
        assert record.item.name in ("a b.png", "a_b.png")
        assert cat.tool.read_image(record.item).startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("image", "words"),
        [
            ("http://169.254.169.254/latest/meta-data", "private network"),
            ("http://localhost:1/a.png", "private network"),
            ("s3://bucket/a.png", "404"),
            ("file:///etc/passwd", "reference is 'file:"),
            ("data:image/png;base64,AAAA", "reference is 'data:"),
            ("", "it has none"),
            ("/data/local-files/?d=../../etc/passwd", "answered"),
        ],
    )
    def test_what_cannot_be_had_is_an_image_error(self, cat: LabelStudioHarness, image: str, words: str) -> None:
        with pytest.raises(ImageError, match=words) as caught:
            cat.tool.read_image(Item(str(cat.project.tasks[0]), "a.png", image))
        assert "a.png" in str(caught.value)

    def test_other_servers_get_no_token(self, studio: Studio, cat: LabelStudioHarness) -> None:
        elsewhere = CannedServer()
        elsewhere.on("/a.png", (200, {}, b"png"))
        try:
            client = LabelStudioClient(studio.server.url, studio.server.token, allowed=[elsewhere.url])
            tool = LabelStudio(client, cat.project.id)
            assert tool.read_image(Item("1", "a.png", f"{elsewhere.url}/a.png")) == b"png"
        finally:
            elsewhere.close()
        assert "authorization" not in elsewhere.seen[0][2]

    def test_an_image_over_the_limit(self, cat: LabelStudioHarness) -> None:
        small = LabelStudio(cat.client, cat.project.id, max_image_bytes=100)
        with pytest.raises(ImageError, match="larger than 100 bytes"):
            small.read_image(cat.tool.read_page(None, 1).records[0].item)


class TestFixes:
    def test_a_newer_draft_is_a_conflict_and_an_older_one_is_not(self, cat: LabelStudioHarness) -> None:
        order = add(cat)
        task, annotation = order.finding.item_id, order.finding.submission_id
        path = f"/api/tasks/{task}/annotations/{annotation}/drafts"
        cat.studio.client.call("POST", path, json={"result": [], "lead_time": 1})
        before = cat.raw(annotation)
        (result,) = cat.tool.apply_fixes([order])
        assert (result.outcome, "not yet submitted" in result.message) == (Outcome.CONFLICT, True)
        assert cat.raw(annotation) == before
        cat.edit(annotation)
        assert [r.outcome for r in cat.tool.apply_fixes([order])] == [Outcome.APPLIED]

    def test_what_is_saved_while_drafts_are_asked_for_stays(self, cat: LabelStudioHarness) -> None:
        order = add(cat)
        annotation, drafts = order.finding.submission_id, cat.client.drafts

        def slow(task: int) -> list[Row]:
            cat.client.drafts = drafts  # type: ignore[method-assign]
            cat.edit(annotation, add=[("cat", Box(200, 20, 260, 70))])
            return drafts(task)

        cat.client.drafts = slow  # type: ignore[method-assign]
        assert [r.outcome for r in cat.tool.apply_fixes([order])] == [Outcome.APPLIED]
        assert len(cat.raw(annotation)) == 3

    def test_a_task_that_was_skipped_meanwhile_is_a_conflict(self, cat: LabelStudioHarness) -> None:
        order = add(cat)
        cat.studio.client.patch_annotation(int(order.finding.submission_id), {"was_cancelled": True})
        assert [r.outcome for r in cat.tool.apply_fixes([order])] == [Outcome.CONFLICT]

    def test_companions_of_a_region_go_with_it_and_odd_regions_stay(self, cat: LabelStudioHarness) -> None:
        record = cat.tool.read_page(None, 1).records[0]
        submission = record.submissions[0]
        stored = cat.studio.client.annotation(int(submission.id))["result"]
        place = {k: v for k, v in stored[0]["value"].items() if k != "rectanglelabels"}
        choice = {**stored[0], "from_name": "state", "type": "choices", "value": {**place, "choices": ["fine"]}}
        odd = {"id": "odd", "type": "brushlabels", "from_name": "x", "to_name": "image", "future": [1e-9, None, "ä"]}
        odd["value"] = {"format": "rle", "rle": list(range(256))}
        cat.studio.client.patch_annotation(int(submission.id), {"result": [*stored, choice, odd]})
        fix = Fix("delete")
        order = FixOrder(finding(cat.tool, record, ErrorType.EXTRA, fix, submission.annotations[0]), fix)
        assert [r.outcome for r in cat.tool.apply_fixes([order])] == [Outcome.APPLIED]
        assert cat.studio.client.annotation(int(submission.id))["result"] == [odd]

    def test_pairs_of_rectangle_and_labels(self, studio: Studio) -> None:
        project = studio.project([(512, 256)], PAIR)
        studio.annotate(project.tasks[0], [])
        tool = LabelStudio(studio.client, project.id)
        record = tool.read_page(None, 1).records[0]
        fix = Fix("add", "dog", FREE)
        (result,) = tool.apply_fixes([FixOrder(finding(tool, record, ErrorType.MISSING, fix), fix)])
        assert result.outcome is Outcome.APPLIED
        now = tool.read_records([record.item.id])[record.item.id].submissions[0]
        assert [(a.label, a.shape) for a in now.annotations] == [("dog", FREE)]
        relabel = Fix("relabel", "cat")
        read = tool.read_records([record.item.id])[record.item.id]
        order = FixOrder(finding(tool, read, ErrorType.WRONG_CLASS, relabel, now.annotations[0]), relabel)
        assert [r.outcome for r in tool.apply_fixes([order])] == [Outcome.APPLIED]
        assert [a.label for a in tool.read_records([record.item.id])[record.item.id].submissions[0].annotations] == [
            "cat"
        ]


class TestRaces:
    """What people do between the moment a submission is read and the moment a fix is written into it."""

    def between(self, cat: LabelStudioHarness, act: Callable[[], object]) -> list[FixResult]:
        """Write a fix; ``act`` comes after drafts were looked for, once."""
        order, drafts, acts = add(cat), cat.client.drafts, [act]

        def looking(task: int) -> list[dict[str, Any]]:
            found = drafts(task)
            if acts:
                acts.pop()()
            return found

        cat.client.drafts = looking  # type: ignore[method-assign]
        return cat.tool.apply_fixes([order])

    def test_an_edit_beside_the_fix_is_kept(self, cat: LabelStudioHarness) -> None:
        submission = cat.tool.read_page(None, 1).records[0].submissions[0].id
        results = self.between(cat, lambda: cat.edit(submission, add=[("cat", Box(300, 20, 340, 60))]))
        assert [r.outcome for r in results] == [Outcome.APPLIED]
        assert len(cat.raw(submission)) == 3

    def test_an_edit_of_the_same_thing_is_a_conflict(self, cat: LabelStudioHarness) -> None:
        submission = cat.tool.read_page(None, 1).records[0].submissions[0].id
        near = Box(FREE.x1, FREE.y1, FREE.x2, FREE.y2 - 20)
        results = self.between(cat, lambda: cat.edit(submission, add=[("dog", near)]))
        assert [r.outcome for r in results] == [Outcome.CONFLICT]
        assert len(cat.raw(submission)) == 2

    @pytest.mark.parametrize("what", ["annotations", "tasks"])
    def test_what_is_deleted_is_a_conflict(self, cat: LabelStudioHarness, what: str) -> None:
        record = cat.tool.read_page(None, 1).records[0]
        number = record.item.id if what == "tasks" else record.submissions[0].id
        results = self.between(cat, lambda: cat.studio.client.call("DELETE", f"/api/{what}/{number}/"))
        assert [r.outcome for r in results] == [Outcome.CONFLICT]

    def test_a_label_that_was_taken_away_is_a_conflict(self, cat: LabelStudioHarness) -> None:
        """Label Studio lets nobody take a label that is in use, but any other."""
        cat.tool.describe()
        config = CONFIG.replace('<Label value="dog" background="#1f77b4"/>', "")
        assert config != CONFIG
        cat.studio.client.patch_project(cat.project.id, {"label_config": config})
        (result,) = cat.tool.apply_fixes([add(cat)])
        assert (result.outcome, "dog" in result.message) == (Outcome.CONFLICT, True)


class TestBrowserViews:
    def test_the_flagged_tab_shows_exactly_those_tasks(self, studio: Studio) -> None:
        harness = LabelStudioHarness(studio, [Photo(((("cat", CAT),), ()))] * 4)
        tool, tasks = harness.tool, harness.project.tasks

        def shown(address: str) -> list[int]:
            params = {"view": address.rpartition("=")[2], "project": harness.project.id}
            return [t["id"] for t in harness.client.call("GET", "/api/tasks/", params=params).json()["tasks"]]

        first = tool.flag_tab([str(tasks[1]), str(tasks[3])])
        assert shown(first) == [tasks[1], tasks[3]]
        again = tool.flag_tab([str(tasks[0])])
        assert (again, shown(again)) == (first, [tasks[0]])
        assert shown(tool.flag_tab([])) == []
        titles = [view["data"]["title"] for view in harness.client.views(harness.project.id)]
        assert titles == ["Default", "Flagged"]
        operators = {item["operator"] for view in harness.client.views(harness.project.id)
                     for item in view["data"].get("filters", {}).get("items", [])}  # fmt: skip
        assert operators == {"contains"}, "the browser cannot open a project that has a tab with in_list"

    def test_requeued_tasks_wait_for_one_more_annotator(self, studio: Studio) -> None:
        harness = LabelStudioHarness(studio, [Photo((((("cat", CAT)),),))] * 2 + [Photo()])
        tool, tasks = harness.tool, harness.project.tasks
        assert tool.requeue([str(tasks[0]), str(tasks[2])]) == 1
        assert tool.requeue([str(tasks[0])]) == 0
        rows = studio.client.tasks(harness.project.id, limit=3).tasks
        assert [(r["overlap"], r["is_labeled"]) for r in rows] == [(2, False), (1, True), (1, False)]
        assert [len(r.submissions) for r in tool.read_page(None, 3).records] == [1, 1, 0]

    def test_the_review_project_takes_new_labels(self, studio: Studio) -> None:
        harness = LabelStudioHarness(studio, [Photo()])
        review = harness.tool.open_review(harness.tool.describe().labels, "Review")
        config = studio.client.project(harness.project.id)["label_config"].replace(
            '<Label value="dog"', '<Label value="fox"/><Label value="dog"'
        )
        studio.client.patch_project(harness.project.id, {"label_config": config})
        tool = harness.again()
        assert tool.open_review(tool.describe().labels, "Review").ref == review.ref
        names = parse_label_config(studio.client.project(int(review.ref))["label_config"]).labels.names
        assert names == ("cat", "dog", "fox")

    @pytest.mark.parametrize("left", ["without its suggestion", "twice", "with an older suggestion"])
    def test_what_a_cut_off_push_left_is_put_right(self, studio: Studio, cat: LabelStudioHarness, left: str) -> None:
        """On a busy SQLite, Label Studio makes the tasks of an import and drops their predictions, or makes them after
        the caller has given up."""
        record, order = cat.tool.read_page(None, 1).records[0], add(cat)
        review = cat.tool.open_review(cat.tool.describe().labels, "Review")
        case = ReviewCase(order.finding, record.item)
        cat.tool.push_cases(review, [case])

        def tasks() -> list[Row]:
            return studio.client.tasks(int(review.ref), limit=9, everything=True).tasks

        (whole,) = tasks()
        if left == "without its suggestion":
            studio.client.call("DELETE", f"/api/predictions/{whole['predictions'][0]['id']}/")
        elif left == "twice":
            bare = {name: whole[name] for name in ("data", "meta")}
            studio.client.import_tasks(int(review.ref), [bare])
        else:
            older = Fix("add", "cat", FREE)
            cat.tool.withdraw_cases(review, [case.finding.id])
            cat.tool.push_cases(review, [ReviewCase(replace(case.finding, fix=older), record.item)])
        (again,) = cat.again().push_cases(review, [case])
        (now,) = tasks()
        assert again.ref == str(now["id"])
        assert now["meta"] == whole["meta"]
        assert [p["result"] for p in now["predictions"]] == [p["result"] for p in whole["predictions"]]
        assert cat.again().push_cases(review, [case]) == [again]

    def test_what_somebody_began_stays_as_it_is(self, studio: Studio, cat: LabelStudioHarness) -> None:
        record, order = cat.tool.read_page(None, 1).records[0], add(cat)
        review = cat.tool.open_review(cat.tool.describe().labels, "Review")
        older = replace(order.finding, fix=Fix("add", "cat", FREE))
        (pushed,) = cat.tool.push_cases(review, [ReviewCase(older, record.item)])
        cat.answer(review, pushed.ref, "accept")
        case = ReviewCase(order.finding, record.item)
        assert cat.again().push_cases(review, [case]) == [pushed]
        (verdict,) = cat.tool.read_verdicts(review, None)
        assert verdict.fix == older.fix

    def test_the_shown_model_is_set_once(self, studio: Studio) -> None:
        from bridge.tools import Prelabel

        harness = LabelStudioHarness(studio, [Photo()] * 2)
        items = [Item(str(t), "a", "a", 512, 256) for t in harness.project.tasks]
        harness.tool.describe()
        before = harness.requests_made()
        harness.tool.write_predictions("m-1", [Prelabel(items[0], ())])
        harness.tool.write_predictions("m-1", [Prelabel(items[1], ())])
        assert harness.requests_made() - before == 6
        project = studio.client.project(harness.project.id)
        assert (project["model_version"], project["show_collab_predictions"]) == ("m-1", True)


@pytest.fixture
def backend() -> Iterator[CannedServer]:
    """The least that Label Studio takes for a model server."""
    running = CannedServer()
    json_type = {"content-type": "application/json"}
    running.on("/health", (200, json_type, b'{"status": "UP"}'))
    running.on("/setup", (200, json_type, b'{"model_version": "stub-1"}'))
    running.on("/webhook", (200, json_type, b"{}"))
    yield running
    running.close()


class TestConnect:
    def hooks(self, studio: Studio, project: int) -> list[dict[str, Any]]:
        rows = studio.client.call("GET", "/api/webhooks/", params={"project": project}).json()
        return [row for row in rows if row["project"] == project]

    def test_connects_once_with_credentials(self, studio: Studio, backend: CannedServer) -> None:
        project = studio.project([(64, 64)]).id
        wanted = Backend(backend.url, user="ann", password="hush-hush")
        first = connect(studio.client, project, wanted)
        again = connect(studio.client, project, wanted)
        assert (first.created, again.created, first.backend == again.backend) == (True, False, True)
        assert first.warnings == ()
        assert self.hooks(studio, project) == [], "Label Studio's own is of no use to anybody"
        sent = [headers.get("authorization") for _, path, headers, _ in backend.seen if path == "/setup"]
        assert set(sent) == {wanted.credentials["Authorization"]}
        assert disconnect(studio.client, project, backend.url) == 1
        assert disconnect(studio.client, project, backend.url) == 0
        assert self.hooks(studio, project) == []

    def test_a_server_that_does_not_answer_leaves_nothing_behind(self, studio: Studio, backend: CannedServer) -> None:
        project = studio.project([(64, 64)]).id
        backend.on("/setup", (500, {}, b"boom"))
        with pytest.raises(ToolError, match="does not reach the model server"):
            connect(studio.client, project, Backend(backend.url))
        assert studio.client.call("GET", "/api/ml", params={"project": project}).json() == []
        assert self.hooks(studio, project) == []

    def test_a_half_made_connection_is_taken_over_once_the_server_is_repaired(
        self, studio: Studio, backend: CannedServer
    ) -> None:
        project = studio.project([(64, 64)]).id
        json_type = {"content-type": "application/json"}
        backend.on("/setup", (200, json_type, b"[]"))
        # Label Studio makes the row, fails, and while the server answers so cannot even list what it made.
        with pytest.raises(ToolError, match="answered 500"):
            connect(studio.client, project, Backend(backend.url))
        backend.on("/setup", (200, json_type, b'{"model_version": "stub-1"}'))
        connection = connect(studio.client, project, Backend(backend.url))
        assert not connection.created
        assert disconnect(studio.client, project, backend.url) == 1

    def test_the_doctor_finds_everything_right(self, studio: Studio, backend: CannedServer) -> None:
        project = studio.project([(64, 64)]).id
        before = [p["id"] for p in studio.client.projects()]
        checks = probe(studio.client, project, Backend(backend.url))
        assert all(check.ok for check in checks), checks
        assert [p["id"] for p in studio.client.projects()] == before

    def test_the_doctor_says_what_is_wrong(self, studio: Studio) -> None:
        checks = {c.name: c for c in probe(studio.client, 987654, Backend("http://model_server:9"))}
        assert checks["Label Studio's address"].ok
        assert checks["Token"].ok
        assert not checks["Project 987654"].ok
        assert "host name is not known" in checks["Model server, from here"].found
        assert "no dot" in checks["Model server's name"].found
        assert not checks["Model server, from Label Studio"].ok
        assert not any(p["title"].startswith("labelbridge doctor") for p in studio.client.projects())


class TestWebhooks:
    """Real ones, to a real receiver."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as opened:
            yield opened

    def test_what_people_do_becomes_hints(self, studio: Studio, store: Store) -> None:
        project = studio.project([(64, 64), (64, 64)])
        place = f"ls:project/{project.id}"
        tool = LabelStudio(studio.client, project.id)
        with receiving(store, now=lambda: datetime.now(UTC)) as receiver:
            assert settle_hooks(tool, HookAddress(receiver.url, SECRET)) == ()
            made = studio.annotate(project.tasks[0], [])
            studio.client.patch_annotation(made["id"], {"lead_time": 2})
            studio.client.call("DELETE", f"/api/annotations/{made['id']}/")
            studio.client.import_tasks(project.id, [{"data": {"image": "x.png"}}])
            hints = [waiting.hint for waiting in store.waiting_hints(10)]
            assert [hint.event for hint in hints] == [
                *("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_CREATED"),
            ]
            assert {(hint.tool, hint.places) for hint in hints} == {("label-studio", (place,))}
            assert hints[0].moment is not None
            assert receiver.counted("label-studio", "forged") == 0

    def test_one_for_each_project_and_its_review(self, studio: Studio, store: Store) -> None:
        harness = LabelStudioHarness(studio, [Photo()])
        hook = HookAddress("http://127.0.0.1:9", SECRET)
        tool = LabelStudio(studio.client, harness.project.id, hook=hook)
        review = tool.open_review(tool.describe().labels, "Review")
        places = [ReviewPlace(tool.target, ref, "", "") for ref in (review.ref, "987654")]
        elsewhere = HookAddress("http://127.0.0.1:10", SECRET + "2")
        for address in (hook, hook, elsewhere):
            assert settle_hooks(tool, address, places) == ()
            for project in (harness.project.id, int(review.ref)):
                rows = studio.client.call("GET", "/api/webhooks/", params={"project": project}).json()
                (row,) = (row for row in rows if row["project"] == project)
                assert (row["url"], row["headers"]) == (
                    f"{address.base}/hooks/label-studio",
                    {"X-Labelbridge-Token": address.secret},
                )
        assert remove_hooks(tool, places) == 2
        assert remove_hooks(tool, places) == 0

    @pytest.mark.parametrize(("host", "words"), [("labelbridge", "has no dot"), ("label_bridge.local", "underscore")])
    def test_addresses_that_label_studio_refuses(self, studio: Studio, host: str, words: str) -> None:
        tool = LabelStudio(studio.client, studio.project([(64, 64)]).id)
        (warning,) = settle_hooks(tool, HookAddress(f"http://{host}:9095", SECRET))
        assert words in warning
        assert "polling" in warning


@pytest.mark.slow
def test_a_label_studio_that_blocks_private_networks(
    label_studio: LabelStudioServer, backend: CannedServer, tmp_path: Path
) -> None:
    """As it comes out of the box since 1.23.1; with its own server, because the switch is in the environment."""
    with LabelStudioServer(label_studio._venv_dir, tmp_path, print, private_networks=False) as blocked:
        client = LabelStudioClient(blocked.url, blocked.token)
        project = int(client.create_project({"title": "blocked", "label_config": PAIR})["id"])
        with pytest.raises(ToolError, match=r"USER_ADDITIONAL_BANNED_SUBNETS=169\.254\.0\.0/16"):
            connect(client, project, Backend(backend.url))
        assert client.call("GET", "/api/ml", params={"project": project}).json() == []
        (warning,) = settle_hooks(LabelStudio(client, project), HookAddress(backend.url, SECRET))
        assert "USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16" in warning
        check = next(c for c in probe(client, project, Backend(backend.url)) if c.name.endswith("from Label Studio"))
        assert not check.ok
        assert "USE_DEFAULT_BANNED_SUBNETS=false" in check.todo
        assert client.tasks(project, task_filter("id", "greater", "Number", 0), limit=1).total == 0
        process = blocked._process
    assert process is not None
    assert process.poll() is not None
