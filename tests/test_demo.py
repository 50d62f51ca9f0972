"The page nbs/demo in a real browser: `pip install playwright`, a Chromium on the path, `python nbs/demo/build.py`"
import io
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from era_resnet.data import load_data, to_32
from era_resnet.zoo import load_pretrained, predict

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
ARCHIVE = os.path.abspath(os.environ.get("ERA_RESNET_DATA", "none"))
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on the path"),
              pytest.mark.skipif("ERA_RESNET_DATA" not in os.environ, reason="ERA_RESNET_DATA names no archive of real images")]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def address():
    "The folder nbs/ by HTTP"
    pages = Path(__file__).resolve().parent.parent/"nbs"
    assert (pages/"demo"/"built"/"compact.onnx").exists(), "run: python nbs/demo/build.py"
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=pages))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(browser, address):
    "The page with the network loaded by keyboard; no request may go anywhere else, and nothing may go wrong in it"
    context = browser.new_context(viewport=dict(width=1000, height=900))
    tab, asked, wrong = context.new_page(), [], []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("pageerror", lambda e: wrong.append(str(e)))
    tab.goto(f"{address}/demo/index.html")
    assert not any("built" in url for url in asked), "nothing large is fetched before it is asked for"
    tab.locator("#load").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#choose:not([hidden])", timeout=60_000)
    yield tab
    assert all(url.startswith((address, "blob:")) for url in asked), asked
    assert not wrong, wrong
    context.close()


def saved(img, form, **options):
    file = io.BytesIO()
    img.save(file, form, **options)
    return file.getvalue()


def answer(page, content, name="picture.png"):
    "Give the page a file; its probabilities by class"
    before = int(page.locator("#answer").get_attribute("data-count") or 0)
    page.set_input_files("#file", files=[dict(name=name, mimeType="image/png", buffer=content)])
    page.wait_for_function("n => Number(document.querySelector('#answer').dataset.count) > n", arg=before, timeout=20_000)
    return dict(page.eval_on_selector_all("#answers label", "rows => rows.map(r => [r.dataset.class, Number(r.dataset.p)])"))


def far(page, model, contents, tolerance):
    "The largest difference of a probability from Python's; the first class must agree unless two are within the tolerance"
    worst = 0
    for content, expected in zip(contents, predict([Image.open(io.BytesIO(c)) for c in contents], model, top=10)):
        told, mine = answer(page, content), dict(zip(expected.labels, expected.probabilities))
        worst = max(worst, max(abs(told[k] - p) for k, p in mine.items()))
        assert max(mine.values()) - mine[max(told, key=told.get)] <= tolerance
    return worst


def test_real_pictures_get_the_same_answers_as_in_python(page):
    test = load_data(ARCHIVE).test
    contents = [saved(Image.fromarray(test.images[i]), "PNG") for i in range(0, 10_000, 50)]
    assert len(contents) == 200
    assert far(page, load_pretrained("compact"), contents, 1e-3) < 1e-3


def larger(image, rng):
    "A photograph of another size, with detail of its own"
    width, height = rng.integers(20, 400, 2)
    pixels = np.asarray(Image.fromarray(image).resize((int(width), int(height)), Image.Resampling.BICUBIC), float)
    return Image.fromarray((pixels + rng.normal(0, 8, pixels.shape)).clip(0, 255).astype(np.uint8))


def test_other_sizes_and_modes_get_the_same_answers(page):
    test, rng, model = load_data(ARCHIVE).test, np.random.default_rng(0), load_pretrained("compact")
    photos = [larger(test.images[i], rng) for i in range(0, 10_000, 200)]
    exact = [saved(p, "PNG") for p in photos[:15]] + [saved(p.convert("L"), "PNG") for p in photos[15:20]]
    exact += [saved(p.quantize(200), "PNG") for p in photos[20:25]] + [saved(p, "WEBP", lossless=True) for p in photos[25:28]]
    exact += [saved(p.quantize(200), "GIF", save_all=True, append_images=[photos[0].resize(p.size).quantize(9)]) for p in photos[28:30]]
    assert far(page, model, exact, 1e-3) < 1e-3
    turned = []
    for way, p in enumerate(photos[30:38], 1):
        exif = Image.Exif()
        exif[0x0112] = way
        turned.append(saved(p, "JPEG", quality=90, exif=exif))
    turned += [saved(p, "JPEG", quality=80) for p in photos[38:42]]
    through = []
    for p in photos[42:46]: # half transparent from left to right
        p.putalpha(Image.linear_gradient("L").rotate(90).resize(p.size))
        through.append(saved(p, "PNG"))
    deep = [saved(Image.fromarray(np.asarray(p.convert("L"), np.uint16)*257), "PNG") for p in photos[46:50]]
    assert len(exact + turned + through + deep) == 50
    for inexact in (turned, through, deep): assert far(page, model, inexact, 0.03) < 0.03


def test_resizing_is_that_of_pillow_to_the_byte(page):
    rng = np.random.default_rng(1)
    for side in (1, 2, 31, 33, 64, 100, 257):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        told = page.evaluate("async ([side, flat]) => Array.from((await import('./picture.js')).resized(Uint8ClampedArray.from(flat), side))", [side, pixels.flatten().tolist()])
        assert (np.reshape(told, (32, 32, 3)) == to_32(Image.fromarray(pixels))).all(), side


def test_a_file_that_is_no_picture_gets_a_sentence(page):
    page.set_input_files("#file", files=[dict(name="notes.txt", mimeType="text/plain", buffer=b"no picture")])
    page.wait_for_selector("#status.wrong")
    assert page.inner_text("#status") == "notes.txt is no picture that this browser can read; choose a PNG or JPEG."
    assert len(answer(page, saved(Image.new("RGB", (5, 9), "red"), "PNG"))) == 10
    assert not page.query_selector("#status.wrong")


def test_keyboard_samples_and_dropped_files(page):
    page.locator("#samples button").nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer[data-count='1']")
    first = page.inner_text("#where-text")
    page.locator("#answers input").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#where-text") != first, "arrow keys choose a class, and the map follows"
    page.evaluate("""bytes => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], "dropped.png", { type: "image/png" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""", list(saved(Image.new("RGB", (40, 30), "navy"), "PNG")))
    page.wait_for_selector("#answer[data-count='2']")
    assert page.locator("#answers input:checked").count() == 1


def test_what_is_pasted(page):
    page.evaluate("""bytes => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], "image.png", { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
    }""", list(saved(Image.new("RGB", (40, 30), "navy"), "PNG")))
    page.wait_for_selector("#answer[data-count='1']")


def test_a_picture_from_the_camera(page):
    page.click("#camera")
    page.wait_for_function("() => document.querySelector('#camera').textContent === 'Take the picture' && document.querySelector('#video').videoWidth > 0")
    page.click("#camera")
    page.wait_for_selector("#answer[data-count='1']")
    assert page.evaluate("() => document.querySelector('#video').srcObject === null"), "the camera is off again"


def test_no_camera_gets_a_sentence(page):
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('NotAllowedError')); }")
    page.click("#camera")
    page.wait_for_selector("#status.wrong")
    assert "choose a file" in page.inner_text("#status")


def test_it_fits_a_phone_and_names_every_control(page):
    answer(page, saved(Image.new("RGB", (64, 64), "green"), "PNG"))
    page.set_viewport_size(dict(width=360, height=740))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    nameless = page.eval_on_selector_all("button, input, canvas", """all => all.filter(e =>
        !(e.textContent.trim() || e.ariaLabel || e.getAttribute("aria-labelledby") || e.querySelector("img[alt]") || e.labels?.length)).length""")
    assert nameless == 0


@pytest.mark.parametrize("system, chosen, is_dark", [("light", None, False), ("dark", None, True), ("light", "alternate", True), ("dark", "default", False)])
def test_it_is_as_dark_as_the_book(page, system, chosen, is_dark):
    page.emulate_media(color_scheme=system)
    page.evaluate("c => c ? localStorage.setItem('quarto-color-scheme', c) : localStorage.clear()", chosen)
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ("rgb(27, 34, 38)" if is_dark else "rgb(255, 255, 255)")
