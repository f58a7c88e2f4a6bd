"""How the checkpoint of a trial is judged: in the process that trained it, or by a vLLM engine.

One checkpoint, the embedded model with a LoRA adapter on its topmost layers, judges the same held-out rows in turn:

- `table`: the packed forward pass of the process that trained, the lower layers read from the table (`trials.layers`);
- `packed`: the same of all layers, as where trials train the whole model;
- `adapter`: one engine for all checkpoints; the adapter is written, and every request names it;
- `weights`: one engine for all; the weights are written, and the engine loads them in place of its own;
- `engine`: an engine for each; the weights are written, and it starts with them.

Seconds are from weights in memory to the probabilities of all verdicts; what happens once for all trials, imports and
token ids is left out. The probabilities of all ways are compared as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from rounds import add_rounds, compared, interleaved

from pipelines.engines.config import EngineConfig

EXAMPLE = Path(__file__).parents[1] / "examples" / "planted" / "ablation.yaml"
ENGINE = EngineConfig(max_model_len=1024, max_num_seqs=64)
RANK = 16
WAYS = ("table", "packed", "adapter", "weights", "engine")

Asked = list[tuple[list[int], list[int]]]  # the ids of a prompt, and those that may follow


def main() -> None:
    """Compare and print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("OPENSELENE_DATA_ROOT"))
    parser.add_argument("--sample", type=int, default=160, help="held-out rows of each of two benchmarks")
    parser.add_argument("--started", type=Path, nargs=2, help=argparse.SUPPRESS)  # an engine for one checkpoint
    add_rounds(parser)
    options = parser.parse_args()
    if options.started:
        weights, asked = options.started
        print(json.dumps(started(weights, json.loads(asked.read_text()))))
        return
    if options.data_root is None:
        sys.exit("set OPENSELENE_DATA_ROOT or --data-root to the folder of the real data")
    with tempfile.TemporaryDirectory() as folder:
        measure = Measure(Path(folder), options.data_root, options.sample)
        found = measure(options.rounds)
        measure.plain = measure.adapting = None  # ends the engines: with two, the process would wait at its end
        print(json.dumps(found))


class Measure:
    """The held-out rows, a checkpoint, and all that judges it.

    Args:
        folder: for checkpoints.
        data_root: of the real data.
        sample: held-out rows of each benchmark.
    """

    def __init__(self, folder: Path, data_root: Path, sample: int) -> None:
        from pipelines.engines.llm.engine import engine_environment
        from pipelines.experiments.trials.families import Shelf

        os.environ.update(engine_environment(ENGINE))
        self.folder, self.numbers = folder, count()
        self.questions, config, layers = held_out(folder, data_root, sample)
        self.families = [family for one in self.questions for family in one.families()]
        self.asked: Asked = [([*family.prompt], [token for (token,) in family.completions]) for family in self.families]
        self.shelf = Shelf.of(self.families)
        self.values: dict[str, list[list[float]]] = {}
        self._engines()
        self._judges(config, layers)

    def _judges(self, config: Any, layers: int) -> None:
        import torch

        from pipelines.experiments.trials.model_judge import ModelJudge

        self.adapted, self.merged = checkpoint(layers)
        self.packed = ModelJudge(config, "embedded", None, self.families)
        self.packed.begin(torch.zeros(0), [])
        self.table = ModelJudge(config, "embedded", layers, self.families)
        expected, states = self.table.first_pass(range(len(self.families)))
        self.table.begin(states, expected)
        # In a trial the weights are there, since they were trained in place.
        changed = self.merged.model.layers
        for judge in (self.packed, self.table):
            judge.backbone.layers[-layers:].load_state_dict(changed[-layers:].state_dict())

    def _engines(self) -> None:
        from vllm import LLM

        from pipelines.engines.llm.engine import engine_arguments
        from pipelines.engines.models import resolve

        arguments = engine_arguments(ENGINE)
        self.plain: Any = LLM(model=resolve("embedded"), **arguments)
        self.adapting: Any = LLM(
            model=resolve("embedded"), enable_lora=True, max_lora_rank=RANK, max_loras=1, **arguments
        )

    def __call__(self, rounds: int) -> dict[str, Any]:
        """Seconds of each way, and how far its probabilities are from those of the packed pass.

        The ratio is that of what trials do over the way which is cheapest on a CPU of those with an engine.
        """
        for way in ("adapter", "weights"):  # the first adapter and the first weights also start what later ones use
            getattr(self, f"by_{way}")()
        found = interleaved({way: partial(self.timed, way, getattr(self, f"by_{way}")) for way in WAYS}, rounds)
        gaps = {way: gap(self.values[way], self.values["packed"]) for way in WAYS}
        engines = {way: compared(found["table"], found[way], less_is_better=True) for way in WAYS[1:]}
        return {
            "name": "trials",
            **engines["weights"],
            "unit": "s",
            "rows": len(self.questions),
            "seconds": found,
            "table_over": {way: [one["ratio"], one["ratio_min"], one["ratio_max"]] for way, one in engines.items()},
            "mean_difference_of_probabilities": gaps,
        }

    def timed(self, way: str, judge: Callable[[], tuple[float, list[list[float]]]]) -> float:
        """Seconds of one way; its probabilities are kept."""
        seconds, self.values[way] = judge()
        print(f"{way}: {seconds:.2f} s", flush=True)
        return seconds

    def by_table(self) -> tuple[float, list[list[float]]]:
        """As trials do."""
        return self._in_process(self.table)

    def by_packed(self) -> tuple[float, list[list[float]]]:
        """As trials of the whole model do."""
        return self._in_process(self.packed)

    def _in_process(self, judge: Any) -> tuple[float, list[list[float]]]:
        start = time.monotonic()
        values = judge.judge(range(len(self.families)))
        return time.monotonic() - start, self._shares(values)

    def by_adapter(self) -> tuple[float, list[list[float]]]:
        """One engine, an adapter for each checkpoint."""
        from vllm.lora.request import LoRARequest

        number = next(self.numbers) + 1
        folder = self.folder / f"adapter{number}"
        self.adapting.reset_prefix_cache()
        start = time.monotonic()
        self.adapted.save_pretrained(folder)
        values = ask(self.adapting, self.asked, LoRARequest(f"trial{number}", number, str(folder)))
        return time.monotonic() - start, self._shares(values)

    def by_weights(self) -> tuple[float, list[list[float]]]:
        """One engine that loads the weights of each checkpoint."""
        start = time.monotonic()
        weights = self._write()
        self.plain.collective_rpc("reload_weights", kwargs={"weights_path": str(weights)})
        self.plain.reset_prefix_cache()
        values = ask(self.plain, self.asked)
        return time.monotonic() - start, self._shares(values)

    def by_engine(self) -> tuple[float, list[list[float]]]:
        """An engine for each checkpoint."""
        start = time.monotonic()
        weights = self._write()
        written = time.monotonic() - start
        asked = self.folder / "asked.json"
        asked.write_text(json.dumps(self.asked))
        command = [sys.executable, __file__, "--started", str(weights), str(asked)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds, values = json.loads(said.splitlines()[-1])
        return written + seconds, self._shares(values)

    def _write(self) -> Path:
        from pipelines.training.pairs import load_tokenizer

        folder = self.folder / f"weights{next(self.numbers)}"
        self.merged.save_pretrained(folder)
        load_tokenizer("embedded").save_pretrained(folder)
        return folder

    def _shares(self, values: Sequence[Sequence[float]]) -> list[list[float]]:
        """Probabilities of each row's verdicts."""
        from pipelines.experiments.trials.worker import shares

        found, at = [], 0
        for one in self.questions:
            found.append(shares(one.logprobs(values[at : at + len(one.places)])))
            at += len(one.places)
        return found


def held_out(folder: Path, data_root: Path, sample: int) -> tuple[list[Any], Any, int]:
    """The held-out rows of the example, its training, and how many layers its trials train."""
    from pipelines.config import load_config
    from pipelines.core import storage
    from pipelines.experiments.trials.ground import training_of
    from pipelines.experiments.trials.heldout import write_heldout
    from pipelines.experiments.trials.questions import Question
    from pipelines.judging.chat import encode_completions, encode_prompts
    from pipelines.training.pairs import load_tokenizer

    settings = [f"data_root={data_root}", f"out_dir={folder / 'out'}", f"trials.heldout.sample={sample}"]
    config = load_config(EXAMPLE, settings)
    mix = config.curation.mix
    rows = storage.read_table(
        write_heldout(config.run, config.trials.heldout, dict(mix.templates), mix.tokenizer).folder
    ).to_pylist()
    tokenizer = load_tokenizer("embedded")
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
    questions = [
        Question.of(prompt, encode_completions(tokenizer, row["completions"]))
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    return questions, training_of(config.train, config.trials), config.trials.layers


def checkpoint(layers: int) -> tuple[Any, Any]:
    """The embedded model with a random adapter on its topmost layers, and the same merged; both in bfloat16."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.engines.models import resolve

    made = []
    for _ in range(2):
        model = AutoModelForCausalLM.from_pretrained(resolve("embedded"), dtype=torch.bfloat16)
        whole = model.config.num_hidden_layers
        config = peft.LoraConfig(
            r=RANK,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            layers_to_transform=list(range(whole - layers, whole)),
            init_lora_weights=False,  # random, not zero, and small enough to leave the model one that judges
            lora_alpha=1,
        )
        torch.manual_seed(0)
        made.append(peft.get_peft_model(model, config))
    return made[0], made[1].merge_and_unload()


def ask(engine: Any, asked: Asked, adapter: Any = None) -> list[list[float]]:
    """Log-probabilities of the tokens that may follow each prompt."""
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": ids} for ids, _ in asked]
    sampling = [SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=tokens) for _, tokens in asked]
    answers = engine.generate(prompts, sampling, use_tqdm=False, lora_request=adapter)
    return [
        [answer.outputs[0].logprobs[0][token].logprob for token in tokens]
        for answer, (_, tokens) in zip(answers, asked, strict=True)
    ]


def started(weights: Path, asked: Asked) -> tuple[float, list[list[float]]]:
    """Start an engine on some weights and ask it; seconds without imports."""
    from vllm import LLM

    from pipelines.engines.llm.engine import engine_arguments

    start = time.monotonic()
    engine = LLM(model=str(weights), **engine_arguments(ENGINE))
    values = ask(engine, asked)
    return time.monotonic() - start, values


def gap(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Mean absolute difference of all probabilities."""
    import numpy as np

    return float(np.abs(np.concatenate(ours) - np.concatenate(theirs)).mean())


if __name__ == "__main__":
    main()
