"""A headless Chromium, spoken to over its DevTools protocol: what a reader of the page would see and be told."""

import asyncio
import base64
import contextlib
import dataclasses
import pathlib
import shutil
import subprocess
import time

import aiohttp

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """The path of a Chromium, if the machine has one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@dataclasses.dataclass
class Visit:
    """What happened when a page was opened.

    Attributes:
        picture: the whole page as PNG.
        complaints: errors and warnings of the console, and exceptions.
        requests: addresses that were asked for.
        width: of the content, in CSS pixels; more than the window's means that the page scrolls sideways.
        answers: of the expressions that were evaluated.
    """

    picture: bytes
    complaints: list[str]
    requests: list[str]
    width: int
    answers: list


@contextlib.contextmanager
def running(browser: str, folder: pathlib.Path):
    """Starts a browser with its own profile; gives the address of its debugger."""
    process = subprocess.Popen(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port_file = folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().count("\n")):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the browser did not start")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port_file.read_text().splitlines()[0]}"
    finally:
        process.terminate()
        process.wait(30)


def visit(
    debugger: str,
    page: pathlib.Path,
    *,
    width: int,
    dark: bool,
    height: int = 900,
    media: str = "",
    expressions: tuple[str, ...] = (),
) -> Visit:
    """Opens a page in a window of this width and looks at all of it.

    Args:
        debugger: from `running`.
        page: the file.
        width: of the window in CSS pixels; below 600 it is a phone.
        dark: whether the reader prefers dark pages.
        height: of the window.
        media: "print" for the printed page.
        expressions: JavaScript to evaluate.
    """
    return asyncio.run(_visit(debugger, page, width, dark, height, media, expressions))


async def _visit(debugger, page, width, dark, height, media, expressions) -> Visit:
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{debugger}/json/new?about:blank") as answer:
            target = await answer.json()
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            number, events = 0, []

            async def call(method, **parameters):
                nonlocal number
                number += 1
                await socket.send_json({"id": number, "method": method, "params": parameters})
                while True:
                    message = await socket.receive_json(timeout=120)
                    if message.get("id") == number:
                        assert "error" not in message, message
                        return message["result"]
                    events.append(message)

            for domain in ("Page", "Runtime", "Log", "Network"):
                await call(f"{domain}.enable")
            phone = width < 600
            await call("Emulation.setDeviceMetricsOverride", width=width, height=height, mobile=phone,
                       deviceScaleFactor=2 if phone else 1)  # fmt: skip
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            await call("Emulation.setEmulatedMedia", media=media, features=[scheme])
            await call("Page.navigate", url=page.absolute().as_uri())
            end = time.monotonic() + 120
            while not any(event.get("method") == "Page.loadEventFired" for event in events):
                assert time.monotonic() < end, "the page does not finish loading"
                events.append(await socket.receive_json(timeout=120))
            answers = []
            for expression in ("document.documentElement.scrollWidth", *expressions):
                result = await call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
                answers.append(result["result"].get("value"))
            picture = await call("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                                 clip={**(await call("Page.getLayoutMetrics"))["cssContentSize"], "scale": 1})  # fmt: skip
        async with session.get(f"{debugger}/json/close/{target['id']}"):
            pass
    complaints, requests = [], []
    for event in events:
        method, given = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            complaints.append(given["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            complaints.append(str(given["args"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            complaints.append(given["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            requests.append(given["request"]["url"])
    return Visit(base64.b64decode(picture["data"]), complaints, requests, answers[0], answers[1:])
