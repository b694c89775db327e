"""The frontend page in a real Chromium, against a server that keeps the API's contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fake_api import KEY, LIMIT, FakeApi, serve_fake_api
from page import drive_page, give_key, launch_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect: Any = pytest.importorskip("playwright.sync_api", reason="needs the PyPI package playwright").expect

RUNNING = {"status": "RUNNING", "attempt": 1, "maxAttempts": 3, "startedAt": "2026-11-23T06:43:53.000Z"}
DONE = {**RUNNING, "status": "SUCCEEDED", "finishedAt": "2026-11-23T06:43:58.400Z"}
NASTY = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch_chromium() as chromium:
        yield chromium


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serve_fake_api() as server:
        yield server


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1000, "height": 900}) as context:
        context.set_default_timeout(15_000)
        page = context.new_page()
        mistakes: list[str] = []
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.on(
            "console",
            lambda message: mistakes.append(message.text) if "Content Security Policy" in message.text else None,
        )
        yield page
        assert mistakes == []


def with_key(page: Page, api: FakeApi) -> None:
    """Open the page with the key already given."""
    page.goto(api.url)
    page.get_by_role("button", name="Set API key").click()
    give_key(page, KEY)


def submit(page: Page, text: str = "two words") -> None:
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Submit").click()


def drop_file(page: Page, name: str, mime: str, content: str) -> None:
    page.evaluate(
        """([name, type, content]) => {
            const data = new DataTransfer();
            data.items.add(new File([content], name, {type}));
            const how = {dataTransfer: data, bubbles: true, cancelable: true};
            document.body.dispatchEvent(new DragEvent("drop", how));
        }""",
        [name, mime, content],
    )


def test_a_pasted_text_is_submitted_and_its_result_shown(page: Page, api: FakeApi) -> None:
    result = {"words": 3, "language": {"code": "fr"}}
    api.states = [{"status": "QUEUED"}, RUNNING, {**DONE, "result": result}]

    shown = drive_page(page, api.url, KEY, "Ça alors ! 🎈")

    assert json.loads(shown) == result
    [(job_id, content_type, body)] = api.submissions
    assert re.fullmatch(r"[0-9]{13}-[0-9a-f-]{36}", job_id)
    assert (content_type, body.decode()) == ("text/plain", "Ça alors ! 🎈")
    expect(page.locator("#figures")).to_contain_text("Words")
    expect(page.locator("#times")).to_contain_text("5.4 s")
    expect(page.locator("#times")).to_contain_text("1 of 3")
    assert page.url.endswith(f"#job={job_id}")


def test_progress_is_shown_as_it_comes_and_said_aloud(page: Page, api: FakeApi) -> None:
    api.states = [{**RUNNING, "progress": {"fraction": 0.4, "message": "tokenised"}}]
    with_key(page, api)
    submit(page)

    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "40")
    expect(page.get_by_text("tokenised")).to_be_visible()
    expect(page.get_by_text("40 %", exact=True)).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Running, 25 percent")
    expect(page).to_have_title("40 % · asyncjobs")

    api.states = [{**DONE, "result": None}]
    expect(page.get_by_role("status")).to_have_text("Succeeded")
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(page.locator("#result")).to_have_text("null")


def test_a_dropped_file_keeps_its_content_type(page: Page, api: FakeApi) -> None:
    with_key(page, api)
    drop_file(page, "people.csv", "text/csv", "name\nAda\n")
    expect(page.get_by_text("people.csv", exact=True)).to_be_visible()
    page.get_by_role("button", name="Submit").click()

    expect(page.locator("#state")).to_have_text("Succeeded")
    assert [(kind, body) for _, kind, body in api.submissions] == [("text/csv", b"name\nAda\n")]
    expect(page.locator("#recent")).to_contain_text("people.csv")


def test_a_chosen_file_can_be_removed_again(page: Page, api: FakeApi) -> None:
    with_key(page, api)
    page.locator("#file").set_input_files({"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7"})
    expect(page.get_by_text("application/pdf, 8 bytes")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    submit(page, "instead")

    expect(page.locator("#state")).to_have_text("Succeeded")
    assert [body for _, _, body in api.submissions] == [b"instead"]


def test_a_wrong_key_is_asked_for_again_and_the_same_job_goes_on(page: Page, api: FakeApi) -> None:
    page.goto(api.url)
    submit(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This API needs a key. The API says: The API key is missing or wrong.")
    give_key(page, "wrong-key")
    expect(dialog).to_contain_text("The key was not accepted.")
    give_key(page, KEY)

    expect(page.locator("#state")).to_have_text("Succeeded")
    assert len(api.submissions) == 1
    stored = page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage)]")
    assert KEY in stored[0]
    assert KEY not in stored[1]


def test_a_key_no_header_can_carry_is_refused_in_the_dialog(page: Page, api: FakeApi) -> None:
    page.goto(api.url)
    page.get_by_role("button", name="Set API key").click()
    give_key(page, "clé avec espaces")
    expect(page.get_by_role("dialog")).to_contain_text("no spaces")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Set API key")).to_be_focused()


def test_the_key_is_remembered_only_when_asked(page: Page, api: FakeApi) -> None:
    page.goto(api.url)
    page.get_by_role("button", name="Set API key").click()
    page.get_by_label("Remember it on this device").check()
    give_key(page, KEY)
    other = page.context.new_page()
    other.goto(api.url)
    submit(other)

    expect(other.locator("#state")).to_have_text("Succeeded")


@pytest.mark.parametrize(
    ("status", "title"),
    [(400, "did not understand"), (403, "refused the key"), (413, "too big"), (415, "type of content")],
)
def test_an_error_is_explained_with_the_apis_own_words(page: Page, api: FakeApi, status: int, title: str) -> None:
    api.put_answers = [status]
    with_key(page, api)
    submit(page)
    if status == 403:
        page.get_by_role("button", name="Not now").click()

    alert = page.locator("#send-problem")
    expect(alert).to_contain_text(title)
    expect(alert).to_contain_text("The service is not well.")
    expect(alert).to_contain_text(f"(Scripted, HTTP {status})")
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()


def test_a_text_over_the_limit_is_warned_about_and_413_is_shown(page: Page, api: FakeApi) -> None:
    with_key(page, api)
    page.get_by_label("Text", exact=True).fill("é" * (LIMIT // 2 + 1))
    expect(page.get_by_text("the API takes about 1 MiB")).to_be_visible()
    page.get_by_role("button", name="Submit").click()

    expect(page.locator("#send-problem")).to_contain_text("larger than the queue takes")
    assert api.submissions == []


def test_an_unlisted_type_can_be_sent_as_plain_bytes(page: Page, api: FakeApi) -> None:
    with_key(page, api)
    drop_file(page, "track.mid", "audio/midi", "MThd")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#send-problem")).to_contain_text("does not list audio/midi")
    page.get_by_role("button", name="Send it as plain bytes").click()

    expect(page.locator("#state")).to_have_text("Succeeded")
    assert [kind for _, kind, _ in api.submissions] == ["application/octet-stream"]


def test_a_lost_connection_or_a_bad_moment_is_retried_with_the_same_id(page: Page, api: FakeApi) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    api.put_answers = [503, 429]
    with_key(page, api)
    # Aborted here, not by the server: Chromium itself sends again on a kept connection that was cut.
    page.route("**/jobs/*", lambda route: route.abort("connectionreset"), times=1)
    submit(page)

    expect(page.locator("#state")).to_have_text("Succeeded")
    assert len(sent) == 4
    assert len(set(sent)) == 1
    assert len(api.submissions) == 1


def test_trying_again_by_hand_is_still_the_same_job(page: Page, api: FakeApi) -> None:
    page.clock.install()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    api.put_answers = [500] * 5
    with_key(page, api)
    submit(page)
    for _ in range(4):
        expect(page.get_by_role("button", name="Trying again")).to_be_visible()
        page.clock.run_for(5_000)
    page.get_by_role("button", name="Try again").click()

    expect(page.locator("#state")).to_have_text("Succeeded")
    assert len(set(sent)) == 1
    assert len(api.submissions) == 1


def test_watching_goes_on_through_a_bad_moment(page: Page, api: FakeApi) -> None:
    api.get_answers = [0, 500, 503]
    with_key(page, api)
    submit(page)

    expect(page.locator("#watch-problem")).to_contain_text("This page keeps asking.")
    expect(page.locator("#state")).to_have_text("Succeeded")
    expect(page.locator("#watch-problem")).to_be_hidden()


def test_what_the_job_says_is_shown_as_text_and_never_run(page: Page, api: FakeApi) -> None:
    api.states = [
        {
            **RUNNING,
            "progress": {"fraction": 0.5, "message": NASTY},
            "error": {"type": NASTY, "message": NASTY},
        },
        {**DONE, "contentType": NASTY, "result": {NASTY: NASTY, "short": "<b>bold</b>"}},
    ]
    with_key(page, api)
    drop_file(page, f"{NASTY}.txt", "text/plain", "x")
    page.get_by_role("button", name="Submit").click()

    expect(page.locator("#state")).to_have_text("Succeeded")
    assert json.loads(page.locator("#result").inner_text())[NASTY] == NASTY
    expect(page.locator("#figures")).to_contain_text("<b>bold</b>")
    assert page.locator("main img, main script, main b").count() == 0
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("state", [{"status": "QUEUED"}, RUNNING], ids=["queued", "running"])
def test_a_job_is_cancelled(page: Page, api: FakeApi, state: dict[str, Any]) -> None:
    api.states = [state]
    with_key(page, api)
    submit(page)
    page.get_by_role("button", name="Cancel job").click()

    expect(page.locator("#state")).to_have_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel job")).to_be_hidden()
    expect(page.get_by_role("heading", name="Job", exact=True)).to_be_focused()
    assert api.cancelled == [api.submissions[0][0]]


def test_a_cancellation_that_comes_too_late_shows_what_became_of_the_job(page: Page, api: FakeApi) -> None:
    api.states = [RUNNING]
    api.delete_answers = [409]
    with_key(page, api)
    submit(page)
    with page.expect_response(lambda response: response.status == 409):
        page.get_by_role("button", name="Cancel job").click()
    api.states = [{**DONE, "result": {"words": 2}}]

    expect(page.locator("#state")).to_have_text("Succeeded")
    expect(page.locator("#watch-problem")).to_be_hidden()
    expect(page.get_by_role("button", name="Cancel job")).to_be_hidden()


def test_a_cancellation_is_tried_again_and_then_offered_again(page: Page, api: FakeApi) -> None:
    api.states = [RUNNING]
    api.delete_answers = [503, 500, 502]
    with_key(page, api)
    submit(page)
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Not cancelled. Try again").click()

    expect(page.locator("#state")).to_have_text("Cancelled")
    assert (len(api.cancelled), api.delete_answers) == (1, [])


def test_a_cancellation_asks_for_the_key(page: Page, api: FakeApi) -> None:
    api.states = [RUNNING]
    api.delete_answers = [403]
    with_key(page, api)
    submit(page)
    page.get_by_role("button", name="Cancel job").click()
    give_key(page, KEY)

    expect(page.locator("#state")).to_have_text("Cancelled")


def test_a_job_at_work_fits_on_a_small_phone(page: Page, api: FakeApi) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    api.states = [{**RUNNING, "progress": {"fraction": 0.4, "message": "m" * 90}}]
    with_key(page, api)
    submit(page)
    expect(page.get_by_role("button", name="Cancel job")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_failed_job_shows_its_error(page: Page, api: FakeApi) -> None:
    api.states = [{**DONE, "status": "FAILED", "error": {"type": "WorkerLost", "message": "The worker died."}}]
    with_key(page, api)
    submit(page)

    expect(page.locator("#state")).to_have_text("Failed")
    expect(page.get_by_role("heading", name="WorkerLost")).to_be_visible()
    expect(page.get_by_text("The worker died.")).to_be_visible()


def test_a_retried_job_says_that_another_attempt_follows(page: Page, api: FakeApi) -> None:
    error = {"type": "ValueError", "message": "not today"}
    api.states = [{"status": "QUEUED", "attempt": 1, "maxAttempts": 3, "error": error}]
    with_key(page, api)
    submit(page)

    expect(page.get_by_role("heading", name="Attempt 1 failed and another follows: ValueError")).to_be_visible()


def test_a_result_in_s3_comes_with_the_command_that_fetches_it(page: Page, api: FakeApi) -> None:
    api.states = [{**DONE, "resultLocation": {"bucket": "b", "key": "results/x/1-t"}}]
    with_key(page, api)
    submit(page)

    expect(page.locator("#command")).to_have_text(re.compile(r"asyncjobs result [0-9]{13}-\S+ -o result"))
    expect(page.get_by_text("s3://b/results/x/1-t")).to_be_visible()
    expect(page.locator("#result")).to_be_hidden()


def test_large_numbers_are_shown_as_they_were_sent(page: Page, api: FakeApi) -> None:
    api.states = [{**DONE, "result": {"id": 12345678901234567890}}]
    with_key(page, api)
    submit(page)

    expect(page.locator("#result")).to_contain_text("12345678901234567890")


def test_a_result_can_be_copied_and_saved(page: Page, api: FakeApi) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    with_key(page, api)
    submit(page)
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("The result is copied")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == {"words": 2}

    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    assert download.value.suggested_filename == f"{api.submissions[0][0]}.json"


def test_a_reload_goes_on_with_the_job(page: Page, api: FakeApi) -> None:
    api.states = [{**RUNNING, "progress": {"fraction": 0.1}}]
    with_key(page, api)
    submit(page)
    expect(page.locator("#state")).to_have_text("Running")

    page.reload()
    expect(page.locator("#state")).to_have_text("Running")
    api.states = [{**DONE, "result": {"words": 2}}]
    expect(page.locator("#state")).to_have_text("Succeeded")
    assert len(api.submissions) == 1


def test_recent_jobs_can_be_opened_and_cleared(page: Page, api: FakeApi) -> None:
    with_key(page, api)
    for text in ("first", "second text"):
        submit(page, text)
        expect(page.get_by_role("link", name=f"Text, {len(text)} bytes")).to_contain_text("Succeeded")
    page.get_by_role("link", name="Text, 5 bytes").click()
    expect(page.locator("#job-id")).to_have_text(api.submissions[0][0])

    assert "first" not in page.evaluate("JSON.stringify(localStorage)")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#recent")).to_be_hidden()


def test_a_link_to_an_unknown_job_says_so(page: Page, api: FakeApi) -> None:
    with_key(page, api)
    page.goto(f"{api.url}#job=0000000000000-gone")
    expect(page.locator("#watch-problem")).to_contain_text("There is no such job")
    page.goto(f"{api.url}#job=nonsense")
    expect(page.locator("#send-problem")).to_contain_text("not a job’s link")


def test_nothing_is_sent_when_there_is_nothing_to_send(page: Page, api: FakeApi) -> None:
    with_key(page, api)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("There is nothing to send yet")).to_be_visible()
    expect(page.get_by_label("Text", exact=True)).to_be_focused()


def test_the_keyboard_alone_is_enough(page: Page, api: FakeApi) -> None:
    page.goto(api.url)
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    page.keyboard.type("two words")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Succeeded")
    expect(page.get_by_role("heading", name="Job", exact=True)).to_be_focused()
    names = []
    for _ in range(5):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert names[:4] == ["Copy id", "Copy", "save", "result"]


def test_a_hidden_tab_does_not_ask(page: Page, api: FakeApi) -> None:
    page.clock.install()
    api.states = [RUNNING]
    with_key(page, api)
    submit(page)
    expect(page.locator("#state")).to_have_text("Running")
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.away !== false, configurable: true})")
    page.clock.run_for(5_000)
    asked = api.reads
    page.clock.run_for(60_000)
    assert api.reads == asked

    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    api.states = [DONE]
    expect(page.locator("#state")).to_have_text("Succeeded")


def test_a_clock_that_is_ahead_does_not_make_a_job_of_the_future(page: Page, api: FakeApi) -> None:
    page.clock.install(time="2099-01-01T00:00:00Z")
    with_key(page, api)
    submit(page)
    expect(page.locator("#state")).to_have_text("Succeeded")
    assert api.submissions[0][0] < "4000000000000"


@pytest.mark.parametrize("url_end", ["/", ""])
def test_the_api_is_found_with_and_without_the_slash(page: Page, api: FakeApi, url_end: str) -> None:
    drive_page(page, api.url.rstrip("/") + url_end, KEY, "two words")
    assert len(api.submissions) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_small_phone_has_no_horizontal_scroll(page: Page, api: FakeApi, scheme: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    api.states = [
        {
            **DONE,
            "contentType": "x" * 120,
            "error": {"type": "E" * 90, "message": "m" * 400},
            "result": {"k" * 200: "v" * 400},
        }
    ]
    with_key(page, api)
    drop_file(page, "n" * 180 + ".csv", "text/csv", "x")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#state")).to_have_text("Succeeded")

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Change API key").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_asks_no_other_host_and_stays_small(page: Page, api: FakeApi) -> None:
    hosts: set[str] = set()
    page.on(
        "request",
        lambda request: hosts.add(request.url.split("/")[2]) if request.url.startswith("http") else None,
    )
    source = drive_page(page, api.url, KEY, "two words") and page.content()

    assert hosts == {api.url.split("/")[2]}
    assert len(source.encode()) < 60_000
