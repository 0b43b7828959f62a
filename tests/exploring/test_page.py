"""The page itself, driven by Chromium: typing, dropping, clicking, the keyboard alone, and hostile input."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.cli import main
from tests.exploring.conftest import HOSTILE, Served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed: mmalign[explore]")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None, reason="needs Chromium and the package playwright"
)
pytestmark = pytest.mark.slow  # each starts a server or a browser; what they call is tested without


def flags_of(served: Served) -> list[str]:
    columns = [f"--data.columns.{name}={column}" for name, column in served.data.named_columns.items()]
    data = ["--data.manifest", str(served.data.manifest), *columns, "--data.validation=0.0"]
    return ["explore", str(served.bundle), str(served.table), "--k=4", "--upload_mb=2", *data]


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    command = [sys.executable, "-m", "mmalign", *flags_of(served), "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if found := re.match(r"open (http://127\.0\.0\.1:\d+) ", line):
                break
        else:
            pytest.fail("".join(lines))
        yield found.group(1)
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
        assert server.stdout.read().endswith("stopped\n")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The open page; at the end: no request has left this machine, and nothing foreign was executed."""
    page, requests, errors = browser.new_page(viewport={"width": 1280, "height": 900}), [], []
    page.set_default_timeout(30_000)
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#map img")
    yield page
    assert [one for one in requests if not one.startswith((f"{url}/", "data:", "blob:"))] == []
    assert page.evaluate("window.hacked") is None
    assert errors == []
    page.close()


def choose(page: Any, tower: str) -> None:
    page.get_by_role("radio", name=tower, exact=True).check()


def drop(page: Any, name: str, data: bytes) -> None:
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    page.locator("#dropped input[type=file]").set_input_files([file])


def typed(page: Any, text: str) -> None:
    choose(page, "words")
    page.get_by_label("Type a sample of words").fill(text)
    page.get_by_role("button", name="Search").click()


def read(request: Any) -> str:
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def status_of(request: Any) -> int:
    try:
        read(request)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.eye(8, dtype=np.float32)[0])
    return stream.getvalue()


@needs_gradio
@needs_browser
def test_type_click_and_export(page: Any) -> None:
    typed(page, "a red disc 3")
    page.wait_for_selector("#answers li")
    assert page.locator("#answers li").count() == 4
    assert "a red disc 3" in page.locator("#answers li").first.inner_text()
    with page.expect_download() as download:
        page.get_by_text("Export the answers").click()
    assert Path(download.value.path()).read_text().startswith("rank,id,score")
    page.locator("#answers button[data-action=explain]").first.click()
    page.wait_for_selector("#explanation h2:has-text('Answer 1')")
    page.locator("#answers button[data-action=similar]").nth(1).click()
    page.wait_for_selector("#answers h2:has-text('row r')")


@needs_gradio
@needs_browser
def test_a_dropped_file_is_answered(page: Any) -> None:
    choose(page, "left")
    drop(page, "a.npy", npy())
    page.wait_for_selector("#answers h2:has-text('a.npy')")
    assert page.locator("#answers li").count() == 4
    assert page.locator("#answers .query img").count() == 1


@needs_gradio
@needs_browser
def test_the_keyboard_alone_is_enough(page: Any) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{selector} is not reached by Tab")

    tab_to("input[type=radio][value=words]")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Search").wait_for()
    tab_to("#query textarea, #query input")
    page.keyboard.type("two cats")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answers li")
    tab_to("button[data-action=explain][data-rank='1']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#explanation h2")
    assert page.evaluate("document.activeElement.closest('#explanation') !== null")


@needs_gradio
@needs_browser
def test_html_and_templates_in_captions_are_shown_not_executed(page: Any) -> None:
    typed(page, HOSTILE)
    page.wait_for_selector("#answers li")
    assert HOSTILE.split(" two cats")[0] in page.locator("#answers li").first.inner_text()
    assert page.locator("#answers li .sample *").count() == 0


@needs_gradio
@needs_browser
def test_bad_input_gives_a_message_and_the_page_lives_on(page: Any) -> None:
    typed(page, "C" * 100_000)
    page.wait_for_selector("#answers .error:has-text('at most 20,000 characters')")
    choose(page, "left")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(10**8))
    for name, data in (("bomb.npy", bomb.getvalue()), ("wrong.txt", b"two cats"), (f"{HOSTILE[:40]}.npy", b"")):
        drop(page, name, data)
        expected = name if name.isprintable() and "<" not in name else "expected"
        page.wait_for_selector(f"#answers .error:has-text('{expected}')")
        assert "/tmp" not in page.locator("#answers .error").inner_text()
    typed(page, "a red disc 3")
    page.wait_for_selector("#answers li")


@needs_gradio
@needs_browser
def test_an_upload_of_200_mb_is_refused(page: Any, url: str, tmp_path: Path) -> None:
    file = tmp_path / "large.npy"
    with file.open("wb") as stream:
        stream.truncate(200 * 10**6)
    choose(page, "left")
    page.locator("#dropped input[type=file]").set_input_files(str(file))
    page.wait_for_selector("text=/exceeds|too large|maximum/i")
    request = urllib.request.Request(f"{url}/gradio_api/upload", data=b"x", headers={"Content-Length": str(2 * 10**8)})
    assert status_of(request) == 413
    typed(page, "a red disc 3")
    page.wait_for_selector("#answers li")


@needs_gradio
@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    typed(page, "a red disc 3")
    page.wait_for_selector("#answers li")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@needs_gradio
def test_no_file_of_this_machine_is_served(url: str, served: Served) -> None:
    for path in ("/etc/passwd", str(served.table), str(served.bundle / "config.json"), "../../../../etc/passwd"):
        assert status_of(f"{url}/gradio_api/file={path}") in (403, 404)


@needs_gradio
def test_a_page_in_use_refuses_its_port(url: str, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    port = url.rpartition(":")[2]
    assert main([*flags_of(served), f"--port={port}"]) == 2
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


@needs_gradio
def test_nothing_is_sent_to_others(url: str) -> None:
    config = read(f"{url}/config")
    assert json.loads(config)["analytics_enabled"] is False
    style = read(f"{url}/theme.css")
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", style)
