"""Attention heads that vLLM computes on a CPU: another size ends its engine at the first prompt, without a reason."""

from __future__ import annotations

from pathlib import Path

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.engines.models import EMBEDDED, resolve


def refuse_other_heads(model: str) -> None:
    """Refuse a model whose heads vLLM's CPU backend does not have; one that is not on this machine is left to vLLM.

    Raises:
        UserError: its heads are of another size.
    """
    if model == EMBEDDED or not storage.exists(Path(folder := resolve(model)) / "config.json"):
        return
    from transformers import AutoConfig

    # vLLM's list of sizes has no public name, and vLLM itself looks at it on GPUs only.
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    try:
        config = AutoConfig.from_pretrained(folder).get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    except (ValueError, AttributeError):  # a model of another kind, of which vLLM says what it thinks
        return
    known = CPUAttentionBackend.get_supported_head_sizes()
    if size not in known:
        raise UserError(
            f"vLLM has no attention heads of {size} on a CPU, only of {', '.join(map(str, known))}",
            where=f"the engine of model '{model}' cannot start",
            fix="use another model, or a GPU",
        )
