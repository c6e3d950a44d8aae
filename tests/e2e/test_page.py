"""The page at /, as people use it: in Chromium, on a phone and on a desk."""

import gzip
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request

import pytest
from browser import Browser, browser  # noqa: F401  a fixture
from conftest import BINARY, ROOT, Server

EVIL = "<img src=x onerror='window.hacked = 1'><b>bold</b><script>window.hacked = 2</script>"
FOLDER = ROOT / "src/api/openai/page"
SIZES = ["phone", "desktop"]


def config(folder, **more):
    path = folder / "penstock.yaml"
    model = {"path": str(ROOT / "models/demo"), "tool_parser": "hermes"}
    one_at_a_time = {**model, "engine": {"max_batch": 1}}
    path.write_text(json.dumps({"models": {"demo": one_at_a_time, "other": {**model, "aliases": [EVIL]}}, **more}))
    return "--config", str(path)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two models, one of which also has a name that is HTML."""
    folder = tmp_path_factory.mktemp("page")
    one = Server(folder, *config(folder), model=None)
    yield one
    assert one.stop() == 0, one.log


@pytest.fixture(params=SIZES)
def page(request, browser, server):  # noqa: F811
    browser.size(request.param)
    browser.open(server)
    browser.until("document.querySelectorAll('.column option').length >= 2", "models")
    browser.set("temperature", "0.5")
    browser.set("seed", "7")
    yield browser
    assert browser.run("return window.hacked === undefined")
    said = browser.logged()
    assert not [line for line in said if "401" not in line and "400" not in line], said


def ask(server, path, **headers):
    request = urllib.request.Request(server.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_the_files_are_small_and_strict(server):
    total = 0
    for file in FOLDER.iterdir():
        status, headers, body = ask(server, "/" if file.name == "page.html" else f"/page/{file.name}")
        assert status == 200 and body == file.read_bytes(), file.name
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy and "script-src 'self'" in policy
        assert "require-trusted-types-for 'script'" in policy
        total += len(body)
        text = body.decode()
        assert not re.search(r"(https?:)?//(?!www\.w3\.org/2000/svg)[a-z]+\.", text), f"{file.name} names a server"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        assert not re.search(r"\sstyle=|\son[a-z]+=\"|<script>|<style>", text) or file.suffix == ".js", file.name
        status, headers, body = ask(server, f"/page/{file.name}", **{"If-None-Match": headers["ETag"]})
        assert status == 304 and body == b""
    assert total < 150_000
    status, headers, body = ask(server, "/page/chat.js", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and gzip.decompress(body) == (FOLDER / "chat.js").read_bytes()
    for path in ("/page/none.js", "/page/..%2fstart_page.cc", "/page/"):
        assert ask(server, path)[0] == 404, path


def test_chat(page, server):
    page.picture("empty")
    assert page.fits()
    page.set("max_tokens", "40")
    page.send("Tell me of the sea.")
    text = page.answers()
    assert text
    assert page.text("#announcer") == "The answer of demo is there."
    # Whoever copies it has it.
    page.cdp("Browser.grantPermissions", origin=server.url,
             permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    # It says so for a second and a half, which whoever looks now and then may miss.
    page.run("""const button = [...document.querySelectorAll('.meta button')].find(b => b.textContent === 'Copy');
        new MutationObserver(() => { if (button.textContent === 'Copied') window.copied = true; })
            .observe(button, {childList: true, characterData: true, subtree: true});
        button.click();""")
    page.until("window.copied === true", "a copy")
    assert page.run("return navigator.clipboard.readText()") == text
    meta = page.text(".message.assistant .meta")
    assert re.search(r"\d+ tokens", meta) and "first after" in meta, meta
    page.picture("chat")
    assert page.fits() and not page.axe()
    if page.name == "phone":  # the narrowest that there are
        page.window(360, 740)
        assert page.fits()
        page.picture("narrow")
        page.size("phone")
    # The conversation goes on, and the second question has the first in it.
    page.send("And then?")
    page.answers(2)
    assert "Tell me of the sea." in page.run("return localStorage['penstock.chats']")
    # After a reload it is in the history, and only in this browser.
    page.open(server, fresh=False)
    page.click("#open-history")
    page.picture("history")
    assert page.fits() and not page.axe()
    page.click("#history-list .open")
    assert page.run("return document.querySelectorAll('.message').length") == 4
    assert page.answers(2)
    # Everything came from this server.
    origins = page.run("return [...new Set(performance.getEntries().map(e => e.name)"
                       ".filter(n => n.includes('://')).map(n => new URL(n).origin))]")
    assert origins == [server.url]


def once_it_streams(page, script):
    """From within: by the time that a driver has seen an answer begin a fast machine has written it all."""
    page.set("max_tokens", "1800")
    page.set("schema", json.dumps({"type": "array", "items": {"type": "integer"}, "minItems": 700}))
    page.run("""new MutationObserver((_, self) => {
        const text = [...document.querySelectorAll('.message.assistant .text')].at(-1)?.textContent ?? '';
        if (text.length <= 20 || document.getElementById('stop').hidden) return;
        self.disconnect();
        %s;
    }).observe(document.getElementById('columns'), {subtree: true, childList: true, characterData: true})""" % script)


@pytest.mark.parametrize("how", [
    "document.getElementById('stop').click()",
    "document.getElementById('prompt').dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))",
], ids=["button", "escape"])
def test_stop(page, server, how):
    once_it_streams(page, how)
    page.send("Count.")
    text = page.answers()
    assert "stopped" in page.text(".message.assistant .meta")
    with pytest.raises(ValueError):
        json.loads(text)
    server.until(lambda: server.metric("vllm:num_requests_running") == 0)
    assert page.run("return document.querySelector('#send').hidden") is False


def test_what_still_streams_is_not_lost(page):
    def kept():
        return {chat["title"]: chat["columns"][0]["messages"]
                for chat in json.loads(page.run("return localStorage['penstock.chats'] ?? '[]'"))}
    once_it_streams(page, "document.getElementById('new-chat').click()")
    page.send("Count.")
    page.until("document.querySelector('.empty-chat')", "a new conversation")
    asked, answer = kept()["Count."]
    assert (asked["role"], answer["role"]) == ("user", "assistant") and len(answer["content"]) > 20
    # The same where another is opened meanwhile, and it says that it was stopped.
    once_it_streams(page, "document.getElementById('open-history').click();"
                          "[...document.querySelectorAll('#history-list .open')].at(-1).click()")
    page.send("Count again.")
    page.until("document.querySelector('.message.user')?.textContent.includes('Count.')", "the first conversation")
    assert "stopped" in page.text(".message.assistant .meta")
    assert len(kept()["Count again."][1]["content"]) > 20 and len(kept()["Count."]) == 2
    # What has been asked is kept at once, and what is forgotten stays so.
    once_it_streams(page, "document.getElementById('open-history').click();"
                          "document.querySelector('#history-list .quiet').click();"
                          "document.getElementById('history-dialog').close()")
    page.click("#new-chat")
    page.send("Forget me.")
    page.until("document.querySelector('.empty-chat')", "a new conversation")
    page.until("document.getElementById('stop').hidden", "the end")
    assert sorted(kept()) == ["Count again.", "Count."]


def test_a_schema_is_kept(page):
    if page.run("return document.getElementById('settings').hidden"):
        page.click("#toggle-settings")
    page.run("document.querySelector('[data-example=schema]').click()")
    page.send("A place, please.")
    answer = json.loads(page.answers())
    assert set(answer) == {"place", "rating"} and 1 <= answer["rating"] <= 5
    page.set("schema", "{")
    assert "This is not JSON" in page.text("#error-schema")
    invalid = "return document.querySelector('[name=schema]').getAttribute('aria-invalid')"
    assert page.run(invalid) == "true"
    page.picture("settings")
    assert page.fits() and not page.axe()
    page.send("Not sent.")
    assert page.run("return document.querySelectorAll('.message.user').length") == 1
    page.set("schema", "{}")
    assert page.run(invalid) is None


def test_nothing_that_a_model_writes_is_html(page):
    page.set("schema", json.dumps({"const": EVIL}))
    for logprobs in (False, True):
        page.set("logprobs", logprobs)
        page.send(EVIL)
        assert EVIL in json.loads(page.answers(1 + logprobs).removesuffix("<|end|>"))
    # A name of a model, an error, a title in the history.
    page.set("schema", json.dumps({"type": EVIL}))
    page.send("This fails.")
    page.until("document.querySelector('.failed')", "a refusal")
    assert "<" in page.text(".failed")
    assert page.text("#announcer") == "Error: " + page.text(".failed")
    page.click("#open-history")
    assert EVIL[:20] in page.text("#history-list")
    page.run("document.getElementById('history-dialog').close()")
    page.run("location.hash = '#status'")
    page.until("document.querySelector('#errors .error-row')", "the refusal in the status")
    assert not page.run("return document.querySelectorAll('main img, main script, main b').length")
    assert page.run("""return [...document.querySelectorAll('.column option')].map(o => o.value)
        .includes(arguments[0])""", EVIL)


def test_tokens_and_their_odds(page):
    page.set("max_tokens", "20")
    page.set("logprobs", True)
    page.send("The old house")
    text = page.answers()
    assert len(page.all(".tokens span")) > 3
    colours = page.run("""return [...document.querySelectorAll('.tokens span')]
        .map(token => getComputedStyle(token).backgroundColor)""")
    assert len(set(colours)) >= 2, colours  # likely ones look unlike those that are not
    page.run("document.querySelector('.tokens').focus()")
    page.find(".tokens").send_keys("\ue014\ue014")  # the right arrow, twice
    odds = page.text(".odds")
    assert odds.startswith("Token 2 of") and len(page.all(".odds tr")) >= 5 and "%" in odds
    page.picture("tokens")
    assert page.fits() and not page.axe()
    # Also of a text that goes on.
    page.set("mode", "completion")
    page.set("schema", '{"type": "array", "items": {"type": "integer"}, "minItems": 4}')
    page.click("#new-chat")
    page.send("The old house was")
    assert page.answers() and len(page.all(".tokens span")) > 3
    assert text


def test_tools(page):
    page.run("document.querySelector('[data-example=tools]').click()")
    tools = json.loads(page.run("return document.querySelector('[name=tools]').value"))
    tools[0]["function"]["parameters"]["properties"]["town"]["enum"] = ["Bergen", "Oslo"]
    page.set("tools", json.dumps(tools))
    page.set("tool_choice", "required")
    page.send("How is the weather in Bergen?")
    page.answers()
    assert page.text(".call .name") == "get_weather"
    assert json.loads(page.text(".call pre"))["town"] in ("Bergen", "Oslo")
    page.find(".call textarea").send_keys('{"weather": "rain"}')
    page.set("tool_choice", "none")
    page.set("max_tokens", "20")
    page.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Send result').click()")
    page.answers(2)
    assert "rain" in page.text(".message.tool")
    page.picture("tools")
    assert page.fits() and not page.axe()


def test_models_side_by_side(page):
    page.set("max_tokens", "20")
    page.click("#add-model")
    chosen = page.run("return [...document.querySelectorAll('.column select')].map(s => s.value)")
    assert chosen == ["demo", "other"]
    page.send("The road")
    page.answers(2)
    assert page.run("""return [...document.querySelectorAll('.column')].map(c =>
        c.querySelectorAll('.message').length)""") == [2, 2]
    page.picture("two")
    assert page.fits() and not page.axe()
    # As a program both are asked.
    for language, command in (("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])):
        page.click("#open-code")
        page.click(f"[data-language={language}]")
        code = page.run("return document.getElementById('code-text').value")
        page.run("document.getElementById('code-dialog').close()")
        assert re.findall(r'"?model"?[:=] ?"(\w+)"', code) == chosen, code
        done = subprocess.run([*command, code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and (language == "python" or done.stdout.count("[DONE]") == 2), (code, done)
    page.click(".column .remove")
    assert len(page.all(".column")) == 1


@pytest.mark.parametrize("mode", ["chat", "completion"])
def test_the_programs_work(page, mode):
    page.set("mode", mode)
    page.set("max_tokens", "12")
    page.set("top_k", "5")
    page.set("stop", "zzz|it's")
    page.find("#prompt").send_keys("It's \"quoted\" $HOME `pwd` \\n")
    page.click("#open-code")
    page.picture("code")
    assert page.fits() and not page.axe()
    curl = page.run("return document.getElementById('code-text').value")
    page.click("[data-language=python]")
    python = page.run("return document.getElementById('code-text').value")
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=120)
    assert done.stdout.rstrip().endswith("data: [DONE]"), (curl, done.stdout, done.stderr)
    assert "$HOME" in curl
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (python, done.stderr)


def test_status(page, server):
    page.run("location.hash = '#status'")
    body = {"model": "demo", "messages": [{"role": "user", "content": "a" * 400}], "max_tokens": 300}
    over = threading.Event()

    def work():
        while not over.is_set():
            request = urllib.request.Request(server.url + "/v1/chat/completions", json.dumps(body).encode(),
                                             {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=120).read()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        value = lambda n: f"document.querySelectorAll('.tile .value')[{n}].textContent"  # noqa: E731
        page.until(f"parseFloat({value(0)}) > 0", "requests that run")
        page.until(f"parseFloat({value(1)}) > 0", "requests that wait")
        page.until(f"parseFloat({value(2)}) > 0", "use of the KV cache")
        page.until(f"parseFloat({value(3)}) > 0", "tokens per second")
        page.until(f"{value(5)} !== '–' && {value(6)} !== '–'", "latencies")
        page.until("document.querySelectorAll('.chart .line')[3].getAttribute('d').includes('L')", "a line")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    page.picture("status")
    assert page.fits() and not page.axe()
    hash_line = re.search(r'penstock_config_hash_info{hash="(\w+)"}', server.get("/metrics"))[1]
    assert hash_line in page.text("#facts")
    rows = page.run("return [...document.querySelectorAll('#models-table tbody tr')].map(r => r.textContent)")
    assert any(r.startswith("demo") and "Serving" in r and "2048" in r for r in rows), rows
    status, _, _ = ask(server, "/v1/models/none")
    try:
        urllib.request.urlopen(urllib.request.Request(server.url + "/v1/completions", b'{"prompt": 5}'))
    except urllib.error.HTTPError as error:
        assert error.code == 400
    page.until("document.querySelector('#errors').textContent.includes('prompt')", "the last error")
    assert status == 404
    page.run("document.querySelector('#errors').scrollIntoView()")
    page.picture("errors")
    assert page.fits() and not page.axe()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_are_readable(page, theme):
    page.dark(theme == "dark")
    page.until(f"document.documentElement.dataset.theme === '{theme}'", theme)
    page.set("logprobs", True)
    page.set("max_tokens", "30")
    page.send("The sea")
    page.answers()
    for view in ("playground", "status"):
        page.run(f"location.hash = '#{view}'")
        page.until(f"!document.getElementById('view-{view}').hidden", view)
        page.picture(f"{theme}-{view}")
        assert page.fits() and not page.axe(), view
    # By the button it stays as it was chosen.
    page.run("document.getElementById('theme-button').click()")
    assert page.run("return document.documentElement.dataset.theme") == "light"
    assert page.run("return localStorage['penstock.theme']") == "light"
    page.dark(False)


def test_the_keyboard_is_enough(page):
    """From the top: the skip link, the views, the tools, the conversation, the composer."""
    page.run("document.activeElement.blur()")
    seen = []
    for _ in range(40):
        page.run("0")
        webdriver_keys(page, "\ue004")
        name = page.run("""const e = document.activeElement;
            return e.id || e.className || e.textContent.slice(0, 20)""")
        seen.append(name)
        if name == "prompt":
            break
    order = ["skip", "nav-playground", "nav-status", "new-chat", "open-history", "prompt"]
    at = [seen.index(name) for name in order]
    assert at == sorted(at), seen
    webdriver_keys(page, "Keys only.")
    page.set("max_tokens", "10")
    webdriver_keys(page, "\ue007")
    page.answers()


def webdriver_keys(page, keys):
    from selenium.webdriver import ActionChains
    ActionChains(page.driver).send_keys(keys).perform()


# ---- who may what ----


@pytest.fixture(params=SIZES)
def sized(request, browser):  # noqa: F811
    browser.size(request.param)
    yield browser
    browser.headers()


def test_a_server_with_a_key_asks_for_it(sized, serve):
    server = serve("--api-key", "the-right-key")
    sized.open(server)
    sized.until("document.getElementById('key-dialog').open", "the question")
    sized.picture("key")
    assert sized.fits() and not sized.axe()
    sized.find("#key-input").send_keys("wrong\n")
    sized.until("document.getElementById('key-error').textContent", "that it is wrong")
    sized.run("document.getElementById('key-input').value = ''")
    sized.find("#key-input").send_keys("the-right-key\n")
    sized.until("!document.getElementById('key-dialog').open", "that it is right")
    sized.set("max_tokens", "10")
    sized.send("Hello")
    assert sized.answers()
    assert sized.run("return Object.entries(localStorage).flat().join().includes('the-right-key')") is False
    sized.click("#open-code")
    assert "the-right-key" not in sized.run("return document.getElementById('code-text').value")


def test_it_follows_the_roles(sized, serve, tmp_path):
    (tmp_path / "pepper").write_text("0123456789abcdef" * 4)
    arguments = config(tmp_path, auth={"api_keys": {"pepper_file": "pepper"}},
                       server={"state_dir": str(tmp_path / "state")})
    server = serve(*arguments, model=None)

    def key(role):
        done = subprocess.run([BINARY, "admin", "keys", "create", "--tenant", "a", "--role", role, "--json",
                               *arguments], capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)["key"]
    user, scraper = key("user"), key("scraper")
    sized.headers(**{"X-Forwarded-For": "203.0.113.7"})  # not of this machine
    for one in (user, scraper):
        sized.open(server)
        sized.until("document.getElementById('key-dialog').open", "the question")
        sized.find("#key-input").send_keys(one + "\n")
        sized.until("!document.getElementById('key-dialog').open", "the key is taken")
        sized.run("location.hash = '#status'")
        if one == user:
            sized.until("!document.getElementById('status-notice').hidden", "a word")
            assert "may not read" in sized.text("#status-notice") and "metrics.read" in sized.text("#status-notice")
            assert sized.run("return document.getElementById('status-body').hidden")
            sized.picture("no-metrics")
            assert sized.fits() and not sized.axe()
        else:
            sized.until("document.querySelectorAll('#models-table tbody tr').length === 2", "models")
            assert "permission infer" in sized.text("#playground-notice")
            assert sized.fits() and not sized.axe()
    # A key that may not is not tried again every other second.
    before = server.metric("penstock_auth_failures_total", reason="permission")
    sized.run("document.getElementById('nav-status').click()")
    sized.until("document.querySelector('.tile .value').textContent !== '–'", "figures")
    assert server.metric("penstock_auth_failures_total", reason="permission") <= before + 1


def test_while_models_load(sized, tmp_path):
    import socket
    (tmp_path / "model").mkdir()
    os.mkfifo(tmp_path / "model/config.json")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([BINARY, "serve", str(tmp_path / "model"), "--port", str(port), "--set",
                                "server.public.grpc="], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    class Loading:
        url = f"http://127.0.0.1:{port}"
    try:
        def answers():
            try:
                urllib.request.urlopen(Loading.url + "/", timeout=5)
                return True
            except OSError:
                return False
        sized.until(answers, "a listener")
        sized.open(Loading)
        sized.until("document.getElementById('phase-text').textContent.startsWith('Loading')", "the phase")
        sized.run("location.hash = '#status'")
        sized.until("document.getElementById('models-table').textContent.includes('No model is loaded')", "no model")
        sized.picture("loading")
        assert sized.fits() and not sized.axe()
    finally:
        process.kill()
        process.wait()


def test_without_the_page(serve):
    server = serve("--set", "server.page=false")
    assert ask(server, "/")[0] == 404 and ask(server, "/page/app.js")[0] == 404
    assert Browser
