"""Saves coverage data while a process runs, for processes that cannot save it when they end.

Ray ends its workers from C++ or by SIGKILL, so that coverage's own exit handler never runs in them. Under
coverage tests/conftest.py puts this folder on PYTHONPATH; Python imports the module at the start of every
process that a test starts, after coverage has started itself there.
"""

import atexit
import threading

INTERVAL_S = 0.5


def save_until_exit() -> None:
    """Save what was measured every INTERVAL_S seconds; nothing happens in a process without coverage."""
    try:
        from coverage import Coverage
    except ImportError:
        return
    measured = Coverage.current()
    if measured is None:
        return
    ending = threading.Event()

    def save_periodically() -> None:
        while not ending.wait(INTERVAL_S):
            measured.save()

    thread = threading.Thread(target=save_periodically, name="coverage-saver", daemon=True)
    thread.start()

    def stop() -> None:
        ending.set()
        thread.join()

    # Runs before coverage's own exit handler, which was registered earlier.
    atexit.register(stop)


save_until_exit()
