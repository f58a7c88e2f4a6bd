"""The end of a service: no new requests, those under way are finished, then the server stops.

Under `vllm serve` SIGTERM stops the engine at once, or with `--shutdown-timeout` lets it finish what it has while it
refuses anything new with an empty 500. So SIGTERM is taken first here. vLLM sets its handlers on the event loop
directly before it starts uvicorn (`serve_http`, vLLM 0.29), after every plugin's `init_state`; the first moment
after that is the start of the app's lifespan, where `install` is called.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable

from serve.access import logs

_log = logging.getLogger("openselene.drain")


class Drain:
    """Counts the requests under way, and says when the last is gone."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.draining = False
        self._empty: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """From now on new requests are refused."""
        self.draining = True

    def enter(self) -> None:
        """One request more."""
        self.in_flight += 1

    def leave(self) -> None:
        """One request less."""
        self.in_flight -= 1
        if self.in_flight == 0 and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Until no request is under way, at most `seconds`; whether that was reached."""
        if self.in_flight:
            self._empty = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._empty, seconds)
            except TimeoutError:
                pass
            finally:
                self._empty = None
        return self.in_flight == 0


def install(drain: Drain, seconds: float) -> Callable[[], None] | None:
    """On SIGTERM drain first, then do what the handler of before does; a second SIGTERM waits no longer.

    Call it in the loop of the server, after the server has set its own handlers. SIGINT is left alone: whoever presses
    Ctrl-C wants it to end now.

    Returns:
        What begins the drain, as the signal does. None where nothing was installed: in a thread, as in a replica of
        Ray Serve, which drains by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    under_way: list[asyncio.Task[None]] = []

    async def drained() -> None:
        _log.warning("SIGTERM: %d requests under way, at most %g seconds", drain.in_flight, seconds)
        done = await drain.wait(seconds)
        _log.warning("drained" if done else "%d requests are cut off", *([] if done else [drain.in_flight]))
        hand_over()

    def hand_over() -> None:
        logs.flush()
        if callable(before) and _is_loops_own(before):
            # A handler of the loop cannot be asked for. vLLM gives the loop the same one for SIGINT, which is
            # still there. Further SIGTERMs say nothing new.
            loop.add_signal_handler(signal.SIGTERM, lambda: None)
            os.kill(os.getpid(), signal.SIGINT)
        else:
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # as it was under uvicorn alone
            os.kill(os.getpid(), signal.SIGTERM)

    def begin() -> None:
        if drain.draining and under_way:
            under_way[0].cancel()
            hand_over()
            under_way.clear()
        elif not drain.draining:
            drain.begin()
            under_way.append(loop.create_task(drained()))

    loop.add_signal_handler(signal.SIGTERM, begin)
    return begin


def _is_loops_own(handler: Callable[..., object]) -> bool:
    """Whether a handler is the empty one that stands for a handler of the event loop."""
    return (getattr(handler, "__module__", None) or "").partition(".")[0] in {"asyncio", "uvloop"}
