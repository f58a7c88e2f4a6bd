"""Every metric of the jobs, as data: `core/counts.py` and the stages count them, `scripts/grafana_board.py` draws them.

What the driver counts is exact: rows that are written, and steps of the trainer. What workers count lacks the last
seconds of a process that was killed (`core/metrics.py`).
"""

from __future__ import annotations

from pipelines.core.metrics import counter, gauge, seconds

# Names of steps and stages; of one with a name after a dash, such as `judge-base`, the part before it.
STEPS = (
    "ingest",
    "prepare",
    "select",
    "synthesize",
    "mix",
    "own_critiques",
    "reference",
    "train",
    "judge",
    "check",
    "requests",
    "map",
)
STAGES = ("reward", "synthesize", "own_critiques", "reference", "judge", "check", "embed", "light")
STATUSES = ("ok", "filtered", "error")
PARSED = ("ok", "completed", "no_verdict", "not_allowed", "thoughts_cut")
TRUTHS = ("true", "false")

ROWS = counter("job_rows", "Rows that a step has written", step=STEPS, status=STATUSES)
STEP_ROWS = gauge(
    "job_step_rows",
    "Rows of the step under way, of training optimizer steps: done, and all",
    step=STEPS,
    which=("done", "all"),
)
ETA = gauge("job_step_eta_seconds", "Time left of the step under way, at its present speed", step=STEPS)

COMPUTED = counter(
    "job_computed_rows", "Rows that a model has worked on, whether or not they were written", stage=STAGES
)
REPEATED = counter("job_repeated_rows", "Rows begun again because a process ended under them", stage=STAGES)
GAVE_UP = counter("job_workers_gave_up", "Workers that failed for good and gave their rows back", step=STEPS)

TOKENS = counter(
    "job_tokens",
    "Tokens of prompts and answers; those cached are part of the prompt",
    stage=STAGES,
    kind=("prompt", "cached", "output"),
)
ANSWER_SECONDS = seconds("job_answer", "Time from a prompt to the last token of its answer", stage=STAGES)

SCORES = counter(
    "job_reward_scores", "Rows that the reward model has scored, or could not", outcome=("scored", "failed")
)
REWARD = gauge("job_reward_mean", "Mean reward of a worker's newest rows")
CHECKS = counter(
    "job_checks",
    "Critiques checked, by whether they agree with their verdict",
    critique=("chosen", "rejected", "judge"),
    consistent=TRUTHS,
)
JUDGMENTS = counter("job_judgments", "Judgments by how their verdict was read", parse_status=PARSED)

PAIRS = counter("job_trained_pairs", "Pairs that the trainer has trained on")
TRAINED_TOKENS = counter("job_trained_tokens", "Tokens that the trainer has trained on")
REPEATED_PAIRS = counter("job_repeated_pairs", "Pairs trained on again, as they came after the last checkpoint")
PAIRS_PER_SECOND = gauge("job_pairs_per_second", "Pairs a second, of the last logged step")
TFLOPS = gauge("job_tflops", "Least operations the pairs needed, in 10^12 a second: all workers, the last logged step")
MFU = gauge("job_mfu", "Share of the devices' peak that is (train.peak_tflops)")
LOSS = gauge("job_loss", "Loss of the last logged step")
HELDOUT = gauge("job_heldout_accuracy", "Share of the held-out pairs that the judge gets right")

METRICS = (
    ROWS,
    STEP_ROWS,
    ETA,
    COMPUTED,
    REPEATED,
    GAVE_UP,
    TOKENS,
    ANSWER_SECONDS,
    SCORES,
    REWARD,
    CHECKS,
    JUDGMENTS,
    PAIRS,
    TRAINED_TOKENS,
    REPEATED_PAIRS,
    PAIRS_PER_SECOND,
    TFLOPS,
    MFU,
    LOSS,
    HELDOUT,
)
