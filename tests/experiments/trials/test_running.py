"""Running trials: what is done is not done again, and a process that dies costs what it had in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.experiments.trials import running
from pipelines.experiments.trials.trial import BASE, Trial, trial
from pipelines.experiments.trials.worker import Ground
from pipelines.training.config import TrainConfig

TRIALS = [BASE, trial(["a"], 0), trial(["b"], 0), trial(["a"], 1)]


def ground(folder: Path) -> Ground:
    return Ground(folder, "f", TrainConfig(), "embedded", None, [], [])


def dying(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Processes that die after so many trials; how many each was given."""
    from ray.exceptions import RayActorError

    given: list[int] = []

    def run(where: Ground, left: Sequence[Trial], concurrent: int, keep_diverged: bool) -> None:
        given.append(len(left))
        for one in left[:after]:
            step.once(where.place(one), where.depends(one), lambda _: {"seconds": 1.0})
        if after < len(left):
            raise RayActorError

    monkeypatch.setattr(running, "_run", run)
    return given


def test_others_go_on_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dying(monkeypatch, 2)
    found = running.run_trials(ground(tmp_path), [*TRIALS, TRIALS[1]], 1)
    assert given == [4, 2] and set(found) == set(TRIALS)
    assert all(storage.exists(place / step.DONE) for place in found.values())
    running.run_trials(ground(tmp_path), TRIALS, 1)
    assert given == [4, 2]


def test_processes_that_always_die_end_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import RayActorError

    given = dying(monkeypatch, 0)
    with pytest.raises(RayActorError):
        running.run_trials(ground(tmp_path), TRIALS, 1)
    assert given == [4, 4, 4]


def test_the_first_pass_is_of_what_trials_take_and_is_known_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More seeds do not take a part for done that has other rows."""
    seen: list[Ground] = []
    monkeypatch.setattr(running, "_run", lambda where, left, concurrent, keep: seen.append(where))
    pool = replace(ground(tmp_path), pairs=[{"row_id": name} for name in "dcba"], asked=[{"judgment_id": "j"}])
    running.run_trials(pool, TRIALS, 1)
    running.run_trials(pool, [*TRIALS, trial(["d"], 0)], 1)
    running.run_trials(pool, TRIALS[::-1], 1)
    assert [[row["row_id"] for row in one.pairs] for one in seen] == [["b", "a"], ["d", "b", "a"], ["b", "a"]]
    assert seen[0].block(0) != seen[1].block(0) and seen[0].block(0) == seen[2].block(0)
    assert seen[0].place(BASE) == seen[1].place(BASE)


def test_a_users_mistake_in_a_process_stays_one_line() -> None:
    from ray.exceptions import RayTaskError

    def failed(cause: Exception) -> Exception:
        """What `ray.get` raises of a process that raised something."""
        raised: Exception = RayTaskError("run", "Traceback, of\nmany lines", cause).as_instanceof_cause()
        return raised

    with pytest.raises(UserError) as caught, running.as_itself():
        raise failed(UserError("the model has 2 layers", where="trials.layers", fix="name fewer"))
    assert str(caught.value) == "trials.layers: the model has 2 layers (name fewer)"
    with pytest.raises(RayTaskError, match="many lines"), running.as_itself():
        raise failed(ValueError("a fault of the program"))


def test_the_first_trial_without_verdicts_ends_the_others() -> None:
    assert running.judged({"pairs": 4}) and not running.judged({"pairs": 4, "diverged": "the loss became nan"})
