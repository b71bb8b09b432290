"""Judges what was seen of a log that was followed while it was written: what is late, cut, changed or torn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tailer.findings import FAIL, OK, WARN, Finding
from tailer.probe import LINES, WAYS, Seen, Trial
from tailer.proxies import Proxy, Topic, what_to_set

SUBJECT = "streams"
LATE_S, HELD_S = 0.1, 0.3
"""Median delays of lines, beside a round trip: from one on they are late, from the other on something collects them."""
FIRST_BYTE_S = 1.0
MEDIA_TYPES = {"text": "text/plain", "sse": "text/event-stream", "ndjson": "application/x-ndjson"}
HTTP_1_0 = 10
"""As ``http.client`` writes it."""


def judge(trial: Trial, proxies: Sequence[Proxy], *, heartbeat: float, network: float) -> Iterator[Finding]:
    """Yield what there is to say of a trial.

    ``heartbeat`` is the web side's, ``network`` how long a round trip to it takes, both in seconds. ``proxies`` are
    those that are known to be between.
    """
    judgement = _Judgement(trial, proxies)
    yield from judgement.delays(network)
    yield from judgement.silence(heartbeat)
    yield from judgement.headers()
    yield from judgement.compression()
    yield from judgement.ends()


class _Judgement:
    def __init__(self, trial: Trial, proxies: Sequence[Proxy]) -> None:
        self._trial = trial
        self._proxies = proxies

    def _set(self, topic: Topic) -> str:
        return what_to_set(self._proxies, topic)

    def delays(self, network: float) -> Iterator[Finding]:
        """Look at when headers and lines come."""
        trial = self._trial
        held, late, good = list[str](), list[str](), list[str]()
        for seen in trial.seen:
            delay = trial.delay(seen)
            if delay is None:
                if trial.cut_after(seen) is None:
                    held.append(f"{seen.way.name} ({seen.error or 'no line came'})")
            elif delay > network + HELD_S:
                held.append(f"{seen.way.name} ({trial.together(seen)} lines at once, {delay:.1f} s late)")
            elif delay > network + LATE_S:
                late.append(f"{seen.way.name} {delay * 1000:.0f} ms")
            else:
                good.append(f"{seen.way.name} {delay * 1000:.0f} ms")
        if held:
            text = f"lines are held back: {', '.join(held)}, of {LINES} written one by one"
            yield Finding(FAIL, SUBJECT, f"{text}; {self._set(Topic.BUFFERING)}")
        if late:
            text = f"each line comes late: {', '.join(late)} after it is written (median)"
            yield Finding(WARN, SUBJECT, f"{text}; {self._set(Topic.DELAY)}")
        if good:
            yield Finding(OK, SUBJECT, f"each line comes at once: {', '.join(good)} after it is written (median)")
        firsts = {seen.way.name: seen.opened_at - seen.asked_at for seen in trial.seen if seen.opened_at}
        if slow := [name for name, took in firsts.items() if took > network + FIRST_BYTE_S]:
            text = f"answers begin with the first output only ({', '.join(slow)}): until then clients may give up"
            yield Finding(WARN, SUBJECT, f"{text}; {self._set(Topic.BUFFERING)}")

    def silence(self, heartbeat: float) -> Iterator[Finding]:
        """Look at which streams are cut before their log ends."""
        trial = self._trial
        cut = {seen.way: after for seen in trial.seen if (after := trial.cut_after(seen)) is not None}
        beating = [way for way in cut if way.format != "text"]
        shortest = min(cut.values(), default=0.0)
        names = ", ".join(way.name for way in cut)
        if not cut:
            text = f"no stream is cut in {trial.silence:g} s of silence"
            more = f" (a heartbeat comes every {heartbeat:g} s; text has none unless asked with heartbeat=1)"
            yield Finding(OK, SUBJECT, text + more)
        elif beating:
            text = (
                f"streams are cut after {shortest:.1f} s without a byte, a heartbeat comes every {heartbeat:g} s only"
            )
            yield Finding(FAIL, SUBJECT, f"{text} ({names}); {self._set(Topic.SILENCE)}")
        else:
            text = f"text is cut after {shortest:.1f} s without output ({names}): ask for it with heartbeat=1"
            yield Finding(WARN, SUBJECT, f"{text}, or {self._set(Topic.SILENCE)}")

    def headers(self) -> Iterator[Finding]:
        """Look at what a proxy must leave as it is."""
        wrong = list[str]()
        for seen in self._open():
            headers, name = seen.headers, seen.way.name
            kind = headers.get("Content-Type", "")
            if kind.partition(";")[0].strip().lower() != MEDIA_TYPES[seen.way.format]:
                wrong.append(f"{name} comes as Content-Type {kind[:60] or '(none)'}")
            if "no-transform" not in headers.get("Cache-Control", ""):
                wrong.append(f"{name} without Cache-Control: no-transform")
            if "Tailer-Cursor" not in headers:
                wrong.append(f"{name} without Tailer-Cursor")
        if wrong:
            yield Finding(WARN, SUBJECT, f"headers are changed: {', '.join(wrong)}; {self._set(Topic.HEADERS)}")

    def compression(self) -> Iterator[Finding]:
        """Look at who compresses: Tailer does, and leaves it where it would cost more than it saves."""
        packed, unpacked = list[str](), list[str]()
        for seen in self._open():
            way, encoding = seen.way, seen.headers.get("Content-Encoding", "identity")
            asked = way.accept_encoding if way.format == "text" else "identity"
            if encoding != asked:
                (unpacked if encoding == "identity" else packed).append(way.name)
        if packed:
            text = f"compressed on the way: {', '.join(packed)}: it costs the proxy memory and time for each client"
            yield Finding(WARN, SUBJECT, f"{text}; {self._set(Topic.COMPRESSION)}")
        if unpacked:
            text = f"not compressed, though asked for: {', '.join(unpacked)}: logs cost more to send"
            yield Finding(WARN, SUBJECT, f"{text}; {self._set(Topic.COMPRESSION)}")

    def _open(self) -> list[Seen]:
        return [seen for seen in self._trial.seen if seen.opened_at]

    def ends(self) -> Iterator[Finding]:
        """Look at how the streams end that were not cut."""
        trial = self._trial
        whole = [seen for seen in self._open() if trial.cut_after(seen) is None and trial.delay(seen) is not None]
        torn = [_torn(seen) for seen in whole if not (seen.over and seen.clean)]
        if torn:
            text = f"streams do not end as they should: {', '.join(torn)}"
            yield Finding(FAIL, SUBJECT, f"{text}; {self._set(Topic.BUFFERING)}")
        elif whole and whole[0].version == HTTP_1_0:
            text = "clients get HTTP/1.0, and cannot tell a stream that was cut from one that is complete"
            yield Finding(WARN, SUBJECT, text)
        elif len(whole) == len(WAYS):
            yield Finding(OK, SUBJECT, "each stream ends with the log's own end, and with HTTP's last chunk")


def _torn(seen: Seen) -> str:
    if not seen.over:
        return f"{seen.way.name} has no end"
    if seen.error:
        return f"{seen.way.name} ({seen.error})"
    return f"{seen.way.name} stays open"
