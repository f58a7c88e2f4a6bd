"""Fit ArmoRM's small head on the embedded backbone from the packaged sample set, the way ArmoRM's was fitted.

Regression: one ridge per objective on frozen last-token features. Transform: takes out what correlates with
verbosity. Gating: Bradley-Terry loss on pairs. It replaces ArmoRM where there is no hub and no GPU. It knows the kinds
of rows in the sample set and nothing else, and a demo also scores rows that it was fitted on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core import storage
from pipelines.core.determinism import digest, unit
from pipelines.core.progress import say
from pipelines.core.records import Row
from pipelines.engines import models
from pipelines.engines.config import RewardModelConfig
from pipelines.engines.reward.conversations import Conversation, Encoder, budget_batches, user_text

if TYPE_CHECKING:
    from pipelines.engines.reward.armorm import ArmoRM

Floats = NDArray[np.float64]
Pairs = Sequence[tuple[int, int]]

SAMPLE = "pipelines.data.sample"
OBJECTIVES = ("sample-preference", "sample-score", "sample-verdict", "sample-verbosity")
VERBOSITY = OBJECTIVES.index("sample-verbosity")
ROWS = {"pairwise": 40, "absolute": 35, "classification": 35}  # 150 responses: ~15 s of 2 cores
HELD_OUT_PAIRS = 16
RIDGE = 10.0  # of 1 to 10,000 in tens: among the best on unseen rows for all three task types
GATING = {"gating_hidden_dim": 64, "gating_n_hidden": 3, "gating_temperature": 10}
STEPS, LEARNING_RATE, WEIGHT_DECAY = 300, 1e-3, 0.01
SEED = 0
SOURCES = ("armorm.py", "conversations.py", "stage.py", "head.py")  # code that decides the fit


@dataclass(frozen=True)
class Response:
    """One response of the sample set: what it is scored for, and its targets by objective."""

    conversation: Conversation
    targets: dict[str, float]


@dataclass(frozen=True)
class Sample:
    """Responses to fit on, and pairs as positions (better, worse) in them.

    Attributes:
        responses: those of the fit first.
        fitted: how many of them the fit may see.
        pairs: of the fit.
        held_out: of the rest.
    """

    responses: list[Response]
    fitted: int
    pairs: list[tuple[int, int]]
    held_out: list[tuple[int, int]]


def embedded_head() -> Path:
    """The folder of the embedded reward model, fitted into the cache on first use."""
    backbone = models.embedded()
    code = [_packaged("pipelines.engines.reward", name) for name in SOURCES]
    code.append(_packaged("pipelines.judging", "chat.py"))
    data = [_text(task) for task in ROWS]
    name = f"armorm-smollm2-135m-{digest(backbone.name, data, code, size=6)}"
    return models.build_once(models.cache() / "models" / name, fit_embedded_head)


def fit_embedded_head(out: Path) -> None:
    """Fit the head and write model, tokenizer and `fit.json` into the folder.

    `fit.json` has the share of pairs whose better response scores higher, in the fit and outside it.
    """
    import torch
    from transformers import AutoTokenizer

    from pipelines.engines.reward import armorm

    say(f"embedded reward model: fitting its head into {out.parent} (once, under a minute)")
    backbone = str(models.embedded())
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    encoder = Encoder(tokenizer, RewardModelConfig().max_tokens)
    sample = choose_sample()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = _new_head(backbone, encoder.frame.between)
        inputs = [encoder(response.conversation).ids for response in sample.responses]
        hidden, prompt = features(model, inputs, encoder.frame.between)
        weights = fit_rewards(hidden[: sample.fitted], [r.targets for r in sample.responses[: sample.fitted]])
        transform = remove_verbosity(hidden[: sample.fitted] @ weights.T)
        with torch.no_grad():
            model.regression_layer.weight.copy_(torch.from_numpy(weights))
            model.reward_transform_matrix.copy_(torch.from_numpy(transform))
        losses = fit_gating(model, hidden, prompt, sample.pairs)
    scores = _scores(model, hidden, prompt)
    armorm.save(model, tokenizer, out)
    storage.write_json(
        out / "fit.json",
        {
            "objectives": list(OBJECTIVES),
            "responses": sample.fitted,
            "pairs": len(sample.pairs),
            "pair_accuracy": pair_accuracy(scores, sample.pairs),
            "held_out_pairs": len(sample.held_out),
            "held_out_pair_accuracy": pair_accuracy(scores, sample.held_out),
            "bradley_terry_loss": {"first": losses[0], "last": losses[-1]},
            "ridge": RIDGE,
            "seed": SEED,
        },
    )


def choose_sample() -> Sample:
    """The responses of the fit, at most ROWS per task type, and pairs that it does not see, chosen by hash.

    Rows with a planted flaw are left out, and ties: Bradley-Terry knows none.
    """
    pairs = [row for row in _rows("pairwise") if row["label"] in ("A", "B")]
    chosen, rest = pairs[: ROWS["pairwise"]], pairs[ROWS["pairwise"] :][:HELD_OUT_PAIRS]
    responses: list[Response] = []

    def add(rows: list[Row]) -> list[tuple[int, int]]:
        added = []
        for row in rows:
            texts = [row["response_a"], row["response_b"]]
            better, worse = texts if row["label"] == "A" else reversed(texts)
            added.append((len(responses), len(responses) + 1))
            responses.append(_response(row, better, "sample-preference", 1.0))
            responses.append(_response(row, worse, "sample-preference", 0.0))
        return added

    fitted_pairs = add(chosen)
    for row in _rows("absolute")[: ROWS["absolute"]]:
        responses.append(_response(row, row["response"], "sample-score", (int(row["label"]) - 1) / 4))
    for row in _rows("classification")[: ROWS["classification"]]:
        responses.append(_response(row, row["response"], "sample-verdict", float(row["label"] == "Yes")))
    fitted = len(responses)
    return Sample(responses, fitted, fitted_pairs, add(rest))


def features(model: ArmoRM, inputs: Sequence[list[int]], pattern: Sequence[int]) -> tuple[Floats, Floats]:
    """Hidden states (N, H) of the last token and of the gate position, in float32 arithmetic."""
    import torch

    from pipelines.engines.reward.armorm import find_gate

    hidden = np.zeros((len(inputs), model.config.hidden_size))
    prompt = np.zeros_like(hidden)
    with torch.inference_mode():
        for batch in budget_batches([len(ids) for ids in inputs], 2048):
            width = max(len(inputs[k]) for k in batch)
            ids = torch.tensor([inputs[k] + [0] * (width - len(inputs[k])) for k in batch])
            last = torch.tensor([len(inputs[k]) - 1 for k in batch])
            gate = torch.tensor([find_gate(inputs[k], pattern) for k in batch])
            hidden[batch], prompt[batch] = (part.double().numpy() for part in model.features(ids, last, gate))
    return hidden, prompt


def fit_rewards(hidden: Floats, targets: Sequence[dict[str, float]]) -> Floats:
    """Ridge weights (K, H), each objective on the responses that have its target; no bias, as in ArmoRM."""
    from sklearn.linear_model import Ridge

    weights = np.zeros((len(OBJECTIVES), hidden.shape[1]))
    for k, objective in enumerate(OBJECTIVES):
        known = [i for i, target in enumerate(targets) if objective in target]
        values = [targets[i][objective] for i in known]
        weights[k] = Ridge(alpha=RIDGE, fit_intercept=False).fit(hidden[known], values).coef_
    return weights


def remove_verbosity(rewards: Floats) -> Floats:
    """The T (K, K) after which no column of rewards (N, K) @ T correlates with the verbosity reward.

    Each objective loses its regression on verbosity: T = I - e_v λᵀ with λ_i = cov(r_i, r_v) / var(r_v), so
    that verbosity itself, whose λ is 1, becomes zero.
    """
    centred = rewards - rewards.mean(axis=0)
    verbosity = centred[:, VERBOSITY]
    transform = np.eye(rewards.shape[1])
    transform[VERBOSITY] -= centred.T @ verbosity / (verbosity @ verbosity)
    return transform


def fit_gating(model: ArmoRM, hidden: Floats, prompt: Floats, pairs: Pairs) -> list[float]:
    """Train the gating network on -log σ(score of the better - score of the worse).

    Returns:
        The loss of each step.
    """
    import torch
    from torch.nn.functional import logsigmoid

    states = [torch.from_numpy(part).float() for part in (hidden, prompt)]
    sides = [[part[[pair[side] for pair in pairs]] for part in states] for side in (0, 1)]
    optimizer = torch.optim.AdamW(model.gating.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses = []
    for _ in range(STEPS):
        better, worse = (model.head(*side).score for side in sides)
        loss = -logsigmoid(better - worse).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def pair_accuracy(scores: Floats, pairs: Pairs) -> float:
    """Share of pairs whose better response scores higher."""
    return float(np.mean([scores[better] > scores[worse] for better, worse in pairs]))


def _new_head(backbone: str, pattern: list[int]) -> ArmoRM:
    from transformers import LlamaConfig

    from pipelines.engines.reward import armorm

    config = LlamaConfig.from_pretrained(backbone)
    shape = {"num_objectives": len(OBJECTIVES), **GATING}
    for key, value in {**shape, "objectives": list(OBJECTIVES), "gate_pattern": pattern}.items():
        setattr(config, key, value)
    model, report = armorm.read_checkpoint(armorm.ArmoRM, backbone, "float32", config=config)
    # The head is new and must be all that is new.
    report["missing_keys"] = {key for key in report["missing_keys"] if key.startswith("model.")}
    armorm.check_keys(backbone, report)
    return model.eval()


def _scores(model: ArmoRM, hidden: Floats, prompt: Floats) -> Floats:
    import torch

    with torch.inference_mode():
        states = (torch.from_numpy(part).float() for part in (hidden, prompt))
        return model.head(*states).score.double().numpy()


def _response(row: Row, text: str, objective: str, target: float) -> Response:
    # Verbosity is the length in characters, in tenfolds.
    targets = {objective: target, "sample-verbosity": float(np.log10(max(len(text), 1)))}
    return Response(Conversation(user_text(row), text), targets)


def _rows(task: str) -> list[Row]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in _text(task).splitlines()]
    order = sorted(range(len(rows)), key=lambda k: unit(SEED, "reward-head", f"{task}:{k}"))
    return [rows[k] for k in order if not rows[k]["planted"]]


def _text(task: str) -> str:
    return _packaged(SAMPLE, f"{task}.jsonl")


def _packaged(package: str, name: str) -> str:
    return storage.read_text(Path(str(resources.files(package) / name)))
