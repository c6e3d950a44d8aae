"""Debian's Chromium, driven by Selenium, on the page at /; and the pictures that it takes."""

import base64
import importlib.util
import os
import pathlib
import shutil
import time

import pytest

from conftest import ROOT

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PICTURES = pathlib.Path(os.environ.get("PENSTOCK_PICTURES", ROOT / "build/page"))
SIZES = {"phone": (390, 844), "desktop": (1280, 800)}

if not CHROMIUM or not DRIVER:
    if os.environ.get("CI") == "true":
        raise RuntimeError("chromium and chromium-driver must be there in CI: ./dev setup")
    pytest.skip("no chromium: ./dev setup installs it", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

AXE = pathlib.Path(importlib.util.find_spec("axe_core_python").origin).with_name("axe.min.js").read_text()


class Browser:
    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--no-first-run", "--no-proxy-server"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(60)
        self.name, self.scheme = "", "light"

    def size(self, name, dark=False):
        self.name = name
        self.window(*SIZES[name])
        self.dark(dark)

    def window(self, width, height):
        self.width = width
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                 mobile=self.name == "phone")

    def dark(self, on):
        self.scheme = "dark" if on else "light"
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": self.scheme}])

    def headers(self, **headers):
        self.cdp("Network.enable")
        self.cdp("Network.setExtraHTTPHeaders", headers=headers)

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def show(self, path):
        """A file of this machine."""
        self.driver.get(path.as_uri())

    def open(self, server, fragment="", fresh=True):
        """A page that was never there before, unless it is not `fresh`."""
        if fresh:
            self.driver.get(server.url + "/page/icon.svg")
            self.cdp("Storage.clearDataForOrigin", origin=server.url, storageTypes="all")
            self.run("sessionStorage.clear(); localStorage.clear()")
        self.driver.get(server.url + "/" + fragment)
        self.driver.get_log("browser")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, condition, what, seconds=60):
        """The first true value of a script or a function."""
        end = time.monotonic() + seconds
        while True:
            value = self.run("return " + condition) if isinstance(condition, str) else condition()
            if value:
                return value
            assert time.monotonic() < end, f"never: {what}; {self.text('body')[:2000]}; {self.logged()}"
            time.sleep(0.03)

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", css)

    def click(self, css):
        self.find(css).click()

    def set(self, name, value):
        """A field of the settings, as if it were typed."""
        self.run("""const field = document.querySelector(`[name=${arguments[0]}]`);
            if (field.type === 'checkbox') field.checked = arguments[1]; else field.value = arguments[1];
            field.dispatchEvent(new Event('input', {bubbles: true}))""", name, value)

    def send(self, text):
        self.find("#prompt").send_keys(text, Keys.ENTER)

    def answers(self, count=1):
        """Waits for so many complete answers; the text of the last one."""
        self.until(f"document.querySelectorAll('.message.assistant .meta').length >= {count}", f"{count} answers")
        return self.run("""const all = document.querySelectorAll('.message.assistant');
            return [...all].at(-1).querySelector('.tokens, .text').textContent""")

    def picture(self, name, whole=False):
        """Of the window, or of the whole page however long it is."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        picture = self.cdp("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        (PICTURES / f"{name}-{self.name}.png").write_bytes(base64.b64decode(picture))

    def logged(self):
        """What the console said since it was asked last."""
        return [line["message"] for line in self.driver.get_log("browser")]

    def axe(self):
        """What axe-core finds that is serious or worse, in light and in dark."""
        if not self.run("return typeof axe === 'object'"):
            self.cdp("Runtime.evaluate", expression=AXE)
        asked, found, grounds = self.scheme == "dark", [], set()
        for dark in (not asked, asked):
            self.dark(dark)
            rows, ground = self.driver.execute_async_script("""const done = arguments[0];
                const ask = async () => {
                  const { violations } = await axe.run(document, {resultTypes: ['violations']});
                  done([violations.map(v =>
                          [v.impact, v.id, v.help, v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3)]),
                        getComputedStyle(document.body).backgroundColor]);
                };
                requestAnimationFrame(() => requestAnimationFrame(ask))""")  # in the colours of the scheme
            grounds.add(ground)
            found += [(self.scheme, *row) for row in rows if row[0] in ("serious", "critical")]
        assert len(grounds) == 2, f"the same in light and dark: {grounds}"
        return found

    def fits(self):
        """Nothing makes the page wider than its window. (innerWidth would grow with it: phones zoom out.)"""
        return self.run("return document.documentElement.scrollWidth") <= self.width

    def quit(self):
        self.driver.quit()


@pytest.fixture(scope="module")
def browser():
    one = Browser()
    yield one
    one.quit()
