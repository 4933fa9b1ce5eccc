"""Settings: which source wins, and that every problem is named without giving away a secret."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import typer

from bridge.cli import app
from bridge.core.findings import ErrorType
from bridge.core.worth import Worth
from bridge.errors import ConfigError
from bridge.settings import Settings, secret_settings, settings_reference

SECRET = "sesame-4711-xyzzy"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def problems(**kwargs: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Settings.load(**{"environ": {}, **kwargs})  # type: ignore[arg-type]
    found = caught.value.found
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    return found.splitlines()[1:]


def test_defaults_need_nothing(tmp_path: Path) -> None:
    settings = Settings.load(environ={})
    assert settings.home == tmp_path / "home" / ".labelbridge"
    assert settings.store_url == f"sqlite:///{tmp_path}/home/.labelbridge/labelbridge.db"
    assert (settings.page_size, settings.predict_batch, settings.push_chunk) == (500, 8, 100)
    assert settings.min_score == 0.5
    assert (settings.backend_host, settings.backend_port) == ("127.0.0.1", 9090)
    assert settings.label_studio_api_key is None
    assert settings.private_networks is False
    assert not (tmp_path / "home").exists()


def test_a_later_source_wins(tmp_path: Path) -> None:
    config = tmp_path / "labelbridge.yaml"
    config.write_text("page_size: 1\npush_chunk: 1\npredict_batch: 1\nbackend_port: 1\n")
    secret = tmp_path / "key"
    secret.write_text("  from-secret-file\n")
    environ = {
        "LABELBRIDGE_PUSH_CHUNK": "2",
        "LABELBRIDGE_PREDICT_BATCH": "2",
        "LABELBRIDGE_LABEL_STUDIO_API_KEY": "from-environment",
        "LABELBRIDGE_LABEL_STUDIO_API_KEY_FILE": str(secret),
        "LABELBRIDGE_BACKEND_PORT": "",
    }
    settings = Settings.load(environ=environ, flags={"predict_batch": 3, "page_size": None})
    assert (settings.page_size, settings.push_chunk, settings.predict_batch, settings.backend_port) == (1, 2, 3, 1)
    assert settings.label_studio_api_key is not None
    assert settings.label_studio_api_key.get_secret_value() == "from-secret-file"
    flagged = Settings.load(environ=environ, flags={"label_studio_api_key": "from-flag"})
    assert flagged.label_studio_api_key is not None
    assert flagged.label_studio_api_key.get_secret_value() == "from-flag"


def test_which_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "labelbridge.yaml").write_text("page_size: 1")
    (tmp_path / "two.yaml").write_text("page_size: 2")
    (tmp_path / "three.yaml").write_text("page_size: 3")
    environ = {"LABELBRIDGE_CONFIG": str(tmp_path / "two.yaml")}
    assert Settings.load(environ={}).page_size == 1
    assert Settings.load(environ=environ).page_size == 2
    assert Settings.load(tmp_path / "three.yaml", environ=environ).page_size == 3


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELBRIDGE_PAGE_SIZE", "7")
    assert Settings.load().page_size == 7


@pytest.mark.parametrize("text", ["", "# nothing\n", "page_size:\n"])
def test_a_file_may_say_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "labelbridge.yaml").write_text(text)
    assert Settings.load(environ={}).page_size == 500


def test_figures_by_error_type(tmp_path: Path) -> None:
    (tmp_path / "labelbridge.yaml").write_text("review_seconds: {missing: 9, wrong_class: 2.5}")
    worth = Settings.load(environ={"LABELBRIDGE_REVIEW_GAIN": "imprecise=0.5, extra=2"}).worth
    assert worth == Worth(
        gain={ErrorType.IMPRECISE: 0.5, ErrorType.EXTRA: 2.0},
        seconds={ErrorType.MISSING: 9.0, ErrorType.WRONG_CLASS: 2.5},
    )
    assert Settings.load(environ={"LABELBRIDGE_REVIEW_SECONDS": "extra=1"}).worth == Worth({}, {ErrorType.EXTRA: 1.0})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mising=3", "expected 'missing', 'extra'"),
        ("missing=0", "expected a number greater than 0"),
        ("missing=-1", "expected a number greater than 0"),
        ("missing=inf", "expected a finite number"),
        ("missing=soon", "expected a valid number"),
        ("missing", "expected figures by error type, as in missing=9,imprecise=12"),
        ("missing=1=2", "expected figures by error type"),
    ],
)
def test_figures_that_are_none(text: str, expected: str) -> None:
    (line,) = problems(environ={"LABELBRIDGE_REVIEW_SECONDS": text})
    assert f"review_seconds (LABELBRIDGE_REVIEW_SECONDS): {expected}" in line


def test_home_moves_the_store_and_knows_the_tilde(tmp_path: Path) -> None:
    settings = Settings.load(environ={"LABELBRIDGE_HOME": "~/lb"})
    assert settings.home == tmp_path / "home" / "lb"
    assert settings.store_url == f"sqlite:///{tmp_path}/home/lb/labelbridge.db"
    relative = Settings.load(environ={}, flags={"home": "data"})
    assert relative.store_url == f"sqlite:///{tmp_path}/data/labelbridge.db"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "labelbridge.yaml"
    config.write_text(f"page_sise: 3\nmin_score: 7\nlabel_studio_api_key: [{SECRET}]\n")
    lines = problems(
        environ={
            "LABELBRIDGE_PREDICT_BATCH": "many",
            "LABELBRIDGE_LABEL_STUDIO_URL": "ftp://labels.example.org",
            "LABELBRIDGE_STORE_URLS": "x",
            "LABELBRIDGE_BACKEND_USER": "ann",
            "LABELBRIDGE_BACKEND_PASSWORD_FILE": str(tmp_path / "absent"),
        },
        flags={"push_chunk": 0, "batch": 3},
    )
    told = "\n".join(lines)
    assert len(lines) == 10
    assert "page_sise (labelbridge.yaml): there is no such setting; did you mean page_size?" in told
    assert "min_score (labelbridge.yaml): expected a number less than or equal to 1, found 7" in told
    assert "label_studio_api_key (labelbridge.yaml): expected" in told
    assert "predict_batch (LABELBRIDGE_PREDICT_BATCH): expected a valid integer, found 'many'" in told
    assert "label_studio_url (LABELBRIDGE_LABEL_STUDIO_URL): expected an address such as https://" in told
    assert "LABELBRIDGE_STORE_URLS (environment): there is no such setting; did you mean LABELBRIDGE_STORE_URL?" in told
    assert "backend_user (LABELBRIDGE_BACKEND_USER): expected backend_password beside it" in told
    assert f"backend_password (LABELBRIDGE_BACKEND_PASSWORD_FILE): the file {tmp_path}/absent cannot be read" in told
    assert "push_chunk (--push-chunk): expected a number greater than or equal to 1, found 0" in told
    assert "batch (command line): there is no such setting" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_score", "nan"),
        ("min_score", "-0.1"),
        ("request_timeout_s", "inf"),
        ("request_timeout_s", "0"),
        ("backend_port", "65536"),
        ("backend_port", "tcp://10.0.0.1:9090"),
        ("page_size", "1.5"),
        ("max_image_bytes", "0"),
        ("private_networks", "perhaps"),
        ("backend_host", "  "),
        ("label_studio_url", "labels.example.org"),
        ("label_studio_url", "https://"),
        ("label_studio_url", "https://host:port/"),
        ("label_studio_url", "https://user:pw@host/"),
        ("label_studio_url", "https://host/?a=1"),
        ("label_studio_url", "http://[::1"),
        ("label_studio_api_key", " \t"),
        ("home", " "),
    ],
)
def test_a_value_that_cannot_be_used(name: str, value: str) -> None:
    (line,) = problems(environ={f"LABELBRIDGE_{name.upper()}": value})
    assert f"{name} (LABELBRIDGE_{name.upper()}): " in line
    assert "expected" in line


def test_yes_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "labelbridge.yaml").write_text("page_size: yes\nprivate_networks: yes\n")
    assert problems() == ["  page_size (labelbridge.yaml): expected something other than yes or no, found True"]


@pytest.mark.parametrize("name", secret_settings())
def test_a_secret_is_never_shown(name: str, tmp_path: Path) -> None:
    value = f"postgresql://me:{SECRET}@db/lb" if name == "store_url" else SECRET
    secret = tmp_path / "secret"
    secret.write_text(value)
    user = {"backend_user": "me"} if name == "backend_password" else {}
    settings = Settings.load(environ={f"LABELBRIDGE_{name.upper()}_FILE": str(secret)}, flags=user)
    stored = getattr(settings, name)
    assert (stored if isinstance(stored, str) else stored.get_secret_value()) == value
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.store_url_shown


def test_a_secret_is_not_shown_when_it_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "labelbridge.yaml").write_text(f"store_url: [{SECRET}]\nbackend_password: {{a: {SECRET}}}\n")
    assert len(problems()) == 2
    assert len(problems(environ={"LABELBRIDGE_BACKEND_PORT": "x", "LABELBRIDGE_BACKEND_TOKEN": " "})) == 4


@pytest.mark.parametrize("value", ["short", "fifteen-letters", "with a space in it", "mit-ümlauten-darin", "x" * 513])
def test_a_secret_of_webhooks_travels_in_a_header_and_is_not_guessed(value: str) -> None:
    (line,) = problems(environ={"LABELBRIDGE_HOOKS_SECRET": value})
    assert "hooks_secret (LABELBRIDGE_HOOKS_SECRET): expected 16 letters, digits and signs or more" in line
    assert value not in line


@pytest.mark.parametrize("name", secret_settings())
def test_a_secret_does_not_stand_in_the_file(name: str, tmp_path: Path) -> None:
    value = f"postgresql://me:{SECRET}@db/lb" if name == "store_url" else SECRET
    (tmp_path / "labelbridge.yaml").write_text(f"{name}: {value}\n")
    variable = f"LABELBRIDGE_{name.upper()}"
    (line,) = problems()
    assert f"{name} (labelbridge.yaml): expected no secret in this file: set {variable}, or {variable}_FILE to" in line


def test_an_address_of_the_store_without_a_password_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "labelbridge.yaml").write_text("store_url: postgresql://me@db/lb")
    assert Settings.load(environ={}).store_url == "postgresql://me@db/lb"
    (tmp_path / "labelbridge.yaml").write_text(f"store_url: postgresql://db/lb?user=me&password={SECRET}")
    assert "expected no secret" in problems()[0]


def test_a_key_does_not_stand_twice(tmp_path: Path) -> None:
    (tmp_path / "labelbridge.yaml").write_text("page_size: 1\nreview_gain: {extra: 1}\npage_size: 2\n")
    assert problems() == [
        "  the settings file labelbridge.yaml is not valid YAML in line 3: the key page_size is there twice"
    ]


def test_what_is_done_by_itself_is_not_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "labelbridge.yaml").write_text("page_size: 3\ndefaults: {score: on}\nprojects: {'ls:project/1': {}}\n")
    assert Settings.load(environ={}).page_size == 3
    (tmp_path / "labelbridge.yaml").write_text("project: {}\n")
    assert problems() == ["  project (labelbridge.yaml): there is no such setting; did you mean projects?"]


@pytest.mark.parametrize(
    "text", [f"label_studio_api_key: *{SECRET}", f"backend_password: '{SECRET}", f"a: b: {SECRET}", f"\t{SECRET}: 1"]
)
def test_a_file_that_is_no_yaml_is_not_quoted(tmp_path: Path, text: str) -> None:
    (tmp_path / "labelbridge.yaml").write_text(text)
    (line,) = problems()
    assert "labelbridge.yaml is not valid YAML in line 1" in line or "line 2" in line


@pytest.mark.parametrize("value", ["2001-99-99", "1" * 5000, "[" * 3000, "&a [*a]"])
def test_a_file_that_means_harm_is_no_yaml(tmp_path: Path, value: str) -> None:
    (tmp_path / "labelbridge.yaml").write_text(f"page_size: {value}")
    (line,) = problems()
    assert "is not valid YAML" in line


def test_a_file_of_somebody_else_is_not_taken_because_it_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "labelbridge.yaml"
    file.write_text("label_studio_url: http://evil.example.org")
    file.chmod(0o666)
    (line,) = problems()
    assert "belongs to another user, or anybody may write to it" in line
    assert Settings.load(file, environ={}).label_studio_url == "http://evil.example.org", "named, it is meant"
    file.chmod(0o644)
    assert Settings.load(environ={}).label_studio_url == "http://evil.example.org"
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    if file.stat().st_uid != 0:
        (line,) = problems()
        assert "belongs to another user" in line


def test_no_option_takes_a_secret() -> None:
    """Whoever shares the machine reads options in the list of processes."""
    group = typer.main.get_command(app)
    options = {o for c in group.commands.values() for p in c.params for o in p.opts}  # type: ignore[attr-defined]
    assert "--config" in options
    assert not {o for o in options if re.search("token|password|passwd|secret|key|credential", o)}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- a\n", "found a list"),
        (b"just words", "found a text"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
        (b"a: \x01", "is not valid YAML"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "labelbridge.yaml").write_bytes(content)
    (line,) = problems()
    assert told in line


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    assert problems(config=absent) == [f"  the settings file {absent} (named by --config) does not exist"]
    assert problems(environ={"LABELBRIDGE_CONFIG": str(absent)}) == [
        f"  the settings file {absent} (named by LABELBRIDGE_CONFIG) does not exist"
    ]
    assert "cannot be read" in problems(config=tmp_path)[0]


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * 70_000, b"\xff"])
def test_a_secret_file_that_holds_no_secret(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    (line,) = problems(environ={"LABELBRIDGE_LABEL_STUDIO_API_KEY_FILE": str(path)})
    assert line.startswith("  label_studio_api_key (LABELBRIDGE_LABEL_STUDIO_API_KEY_FILE): ")


def test_variables_of_other_programs_are_no_problem() -> None:
    """Kubernetes sets these for a service called ``labelbridge``."""
    environ = {
        "LABELBRIDGE_PORT": "tcp://10.0.0.1:80",
        "LABELBRIDGE_SERVICE_HOST": "10.0.0.1",
        "LABELBRIDGE_SERVICE_PORT": "80",
        "LABELBRIDGE_PORT_80_TCP_ADDR": "10.0.0.1",
        "LABELBRIDGE_SOMETHING_ELSE": "1",
        "OTHER_PAGE_SIZE": "x",
    }
    assert Settings.load(environ=environ) == Settings.load(environ={})


def test_an_address_is_tidied() -> None:
    settings = Settings.load(environ={"LABELBRIDGE_LABEL_STUDIO_URL": " http://127.0.0.1:8080/ls/ "})
    assert settings.label_studio_url == "http://127.0.0.1:8080/ls"


def test_the_reference_is_the_model() -> None:
    rows = settings_reference()
    assert [row.name for row in rows] == list(Settings.model_fields)
    for row in rows:
        assert row.env == f"LABELBRIDGE_{row.name.upper()}"
        assert row.meaning.endswith(".")
        assert len(row.meaning) > 20
    given = {row.env: row.default for row in rows if row.default and row.name != "store_url"}
    assert Settings.load(environ=given) == Settings.load(environ={})
    assert set(secret_settings()) == {
        "store_url",
        "label_studio_api_key",
        "cvat_token",
        "cvat_password",
        "backend_password",
        "backend_token",
        "hooks_secret",
    }


def test_settings_cannot_be_changed() -> None:
    settings = Settings.load(environ={})
    with pytest.raises(ValueError, match="frozen"):
        settings.page_size = 3  # type: ignore[misc]
