"""What a job prints never becomes markup; and the pane can be used without a mouse, without sight, on any screen."""

import pytest

from tests.panes import PanePage, speaking
from tests.written import Written

ALLOWED = {"A", "SPAN", "DIV", "BUTTON"}
THEMES = {"light": False, "dark": True}


@pytest.fixture
def pane(page, stack) -> PanePage:
    """A page of the test's own."""
    return PanePage(page, stack.web)


def finished(stack, data: bytes, outcome: str = "finished") -> str:
    """The id of a job that is over and has printed that."""
    log = Written(stack.store)
    log.rq_job(stack.connection, outcome)
    if data:
        log.write(data)
    log.end(outcome)
    return log.job_id


@pytest.mark.parametrize("seed", [1, 2])
def test_no_bytes_become_markup(pane, stack, seed):
    """Random bytes, HTML, escape sequences: only text, spans, links and our own buttons; the text is what it was."""
    queue = stack.queue()
    job = queue.enqueue("tests.pane_jobs.random_bytes", seed, 60_000)
    stack.work(queue)
    pane.open(job.id).until("pane.log.store.rows > 50")
    pane.ask("(pane.log.store.foldRepeats = false, pane.view.redrawAll())")
    pane.until("pane.view.filled === pane.view.boxes.size")
    tags = pane.ask("[...new Set([...pane.view.lines.querySelectorAll('*')].map((element) => element.tagName))]")
    assert set(tags) <= ALLOWED
    pages = pane.ask("[...document.querySelectorAll('main *, aside *')].map((element) => element.tagName)")
    assert not {"SCRIPT", "IMG", "IFRAME", "OBJECT", "STYLE"} & set(pages)
    hrefs = pane.ask("[...pane.view.lines.querySelectorAll('a.link')].map((a) => a.protocol)")
    assert set(hrefs) <= {"https:", "http:", "mailto:"}
    assert not pane.page.evaluate("() => window.hit")
    differing = pane.ask(
        "[...pane.view.boxes.values()].flatMap(({block, element}) => block.rows.map((row, i) =>"
        " [row.text.slice(0, 10000), element.children[i].textContent])).filter(([model, shown]) => model !== shown)"
    )
    assert differing == []
    attributes = pane.ask(
        "[...pane.view.lines.querySelectorAll('*')].flatMap((element) => element.getAttributeNames())"
    )
    assert not [name for name in set(attributes) if name.startswith("on")]


@pytest.mark.engines
def test_the_policy_stops_what_would_get_through(pane, stack, complaints):
    """A script put into the page by force does not run: the test of the tests above."""
    complaints.allow("Content.Security.Policy|Trusted|innerHTML|TrustedHTML|blocked")
    pane.open(finished(stack, b"x\n"))
    threw = pane.page.evaluate(
        "() => { try { document.body.innerHTML = '<img src=x onerror=window.hit=1>'; return false; }"
        " catch { return true; } }"
    )
    pane.page.evaluate(
        "() => { const script = document.createElement('script');"
        " try { script.textContent = 'window.hit = 1'; } catch {} document.body.append(script); }"
    )
    assert not pane.page.evaluate("() => window.hit")
    assert threw


# Without a mouse, without sight.


def test_screen_readers_hear_what_is_new_but_not_every_line(pane, stack, tmp_path):
    """The log itself is quiet; a status tells how many lines are new, at most every five seconds, and how it ended."""
    with speaking(stack, tmp_path) as job:
        job.out("first\n")
        pane.open(job.job.id).shows("first")
        scroller = pane.pane.locator(".scroller")
        assert scroller.get_attribute("role") == "log"
        assert scroller.get_attribute("aria-live") == "off"
        assert pane.pane.locator(".speaker").get_attribute("aria-live") == "polite"
        job.out("more\n" * 41).err("ERROR: it broke\n")
        pane.until("/\\d+ new lines?, 1 error/.test(pane.notices.speaker.textContent)", 15)
        job.end()
        pane.until("pane.notices.speaker.textContent.includes('job finished after')", 15)
        pane.press("l")
        pane.until("pane.notices.speaker.textContent.endsWith('more\\nERROR: it broke')")


def test_everything_can_be_reached_with_the_keyboard(pane, stack):
    """Tab leads past any number of queues and jobs into the log; each control has a name; ? lists the keys."""
    for _ in range(30):
        stack.queue().enqueue("tests.jobs.hello")
    pane.open(finished(stack, b"a line\n"))
    pane.page.wait_for_function("() => document.querySelectorAll('a.queue').length > 30")
    nameless = pane.ask(
        "[...pane.element.querySelectorAll('button, input, select')]"
        ".filter((control) => !(control.getAttribute('aria-label') || control.textContent.trim())).length"
    )
    assert nameless == 0
    pane.press("?")
    pane.pane.locator("dialog[open]").wait_for()
    pane.page.keyboard.press("Escape")
    pane.until("!pane.help.open")
    pane.page.locator("input[type=search]").first.focus()
    way: list[str] = []
    while not way or "scroller" not in way[-1]:
        assert len(way) < 30, way
        pane.page.keyboard.press("Tab")
        way.append(pane.page.evaluate(FOCUS))
    assert way[0].startswith("a.queue")
    assert way[1].startswith("a.job")
    pane.page.locator("a.queue").first.focus()
    pane.page.keyboard.press("ArrowRight")
    beside = pane.page.evaluate(FOCUS)
    assert beside.startswith("a.queue")
    assert beside != way[0]
    pane.page.keyboard.press("ArrowLeft")
    assert pane.page.evaluate(FOCUS) == way[0]
    pane.page.keyboard.press("ArrowRight")
    new = stack.queue()
    new.enqueue("tests.jobs.hello")
    pane.page.locator("a.queue", has_text=new.name).wait_for()
    stops = pane.page.eval_on_selector_all("a.queue[tabindex='0']", "(links) => links.map((link) => link.text)")
    assert stops == [beside.removeprefix("a.queue ")]


FOCUS = """() => {
  let element = document.activeElement;
  while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return `${element.localName}.${element.className} ${element.ariaLabel || element.textContent.slice(0, 40)}`;
}"""


@pytest.mark.parametrize("theme", THEMES)
def test_text_has_contrast_in_both_themes(new_page, stack, theme):
    """Every piece of text of the page and of the pane has 4.5 to what is behind it (WCAG 2.2, 1.4.3)."""
    log = b"plain\nERROR: bad\nWARNING: hm\nDEBUG: x\nsee https://example.com\n::group::G\nin\n::endgroup::\n"
    log += b'Traceback (most recent call last):\n  File "x.py", line 1, in f\nValueError: x\n'
    log += b"".join(b"one more line, for the job may be alone in the list: %d\n" % n for n in range(20))
    log += "".join(f"\x1b[3{n}mfront\x1b[0m \x1b[4{n}mback\x1b[0m \x1b[9{n}mbright\x1b[0m\n" for n in range(8)).encode()
    pane = PanePage(new_page(dark=THEMES[theme]), stack.web).open(finished(stack, log, "failed"))
    pane.shows("back")
    pane.page.locator("a.job").first.wait_for()
    pane.page.mouse.move(0, 0)
    poor = pane.page.evaluate(CONTRASTS)
    assert poor == []


CONTRASTS = """() => {
  const curve = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const channel = (value) => curve(value / 255);
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (css) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parentOf = (node) => node.parentElement ?? node.parentNode?.host ?? null;
  const over = (top, under) => top.slice(0, 3).map((value, i) => value * top[3] + under[i] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = parentOf(at)) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const poor = [];
  let seen = 0;
  const look = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT);
    for (let element = walker.nextNode(); element; element = walker.nextNode()) {
      if (element.shadowRoot) look(element.shadowRoot);
      const words = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data);
      const text = words.join('').trim();
      if (!text || element.closest('.speaker, style')) continue;
      if (!element.checkVisibility({ visibilityProperty: true })) continue;
      seen += 1;
      const back = behind(element);
      let opacity = 1;
      for (let at = element; at; at = parentOf(at)) opacity *= Number(getComputedStyle(at).opacity);
      const colour = rgba(getComputedStyle(element).color);
      const front = over([...colour.slice(0, 3), colour[3] * opacity], back);
      const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
      const contrast = (high + 0.05) / (low + 0.05);
      if (contrast < 4.5) poor.push([text.slice(0, 30), element.className, contrast.toFixed(2)]);
    }
  };
  look(document.body);
  return seen > 50 ? poor : [`only ${seen} pieces of text were looked at`];
}"""


@pytest.mark.parametrize("width", [320, 375, 800, 1280, 2560])
def test_no_width_scrolls_sideways(new_page, stack, width):
    """From a small phone to a large screen; long lines wrap, and every tool is in reach."""
    pane = PanePage(new_page(viewport={"width": width, "height": 700}), stack.web)
    pane.open(finished(stack, b"x" * 3000 + b"\n" + b"word " * 400 + b"\n"))
    assert pane.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert pane.ask("pane.view.scroller.scrollWidth <= pane.view.scroller.clientWidth")
    box = pane.pane.locator("button.help").bounding_box()
    assert box["x"] + box["width"] <= width


def test_reduced_motion_stops_the_pulse(new_page, stack):
    """The dot of a live log does not pulse where people ask for less motion."""
    log = Written(stack.store)
    log.rq_job(stack.connection, "started")
    log.write(b"x\n")
    names = []
    for still in (False, True):
        pane = PanePage(new_page(still=still), stack.web).open(log.job_id)
        pane.until("pane.element.querySelector('.link-state.live')")
        names.append(pane.ask("getComputedStyle(pane.element.querySelector('.link-state')).animationName"))
    assert names == ["pulse", "none"]
    log.end("finished")
