"""The certificate as a Markdown table, for the card and the terminal."""

from __future__ import annotations

from pipelines.evaluation.scoring.comparison import Difference
from pipelines.evaluation.scoring.figures import Part
from pipelines.release.parity.certificate import Certificate, Parity, Tokens


def table(certificate: Certificate) -> str:
    """Every engine and file in one line each."""
    names = (
        "engine",
        "prompt tokens",
        "with control tokens",
        "chat route",
        "Ollama template",
        "flips (95%)",
        "mean, largest Δp",
        "mean, largest KL",
        "the same judge",
    )
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    lines = [_line(name, one) for name, one in certificate.columns.items() if name != certificate.reference]
    return "\n".join([head, *lines])


def _line(name: str, one: Parity) -> str:
    ollama = "" if one.ollama is None else _tokens(one.ollama)
    cells = [
        name,
        _tokens(one.encoded),
        _tokens(one.marked),
        _tokens(one.chat),
        ollama,
        share(one.flips),
        f"{one.gap.mean:.4f}, {one.gap.most:.4f}",
        f"{one.divergence.mean:.2e}, {one.divergence.most:.2e}",
        "yes" if one.within else "no",
    ]
    return f"| {' | '.join(cells)} |"


def margins(certificate: Certificate) -> str:
    """Flips by the reference's margin between its two likeliest verdicts."""
    bins = list(dict.fromkeys(name for one in certificate.columns.values() for name in one.margins))
    lines = [f"| engine | {' | '.join(f'margin {name}' for name in bins)} |", f"|---|{'---|' * len(bins)}"]
    for name, one in certificate.columns.items():
        if name != certificate.reference:
            cells = [share(one.margins[each]) if each in one.margins else "" for each in bins]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def drift(certificate: Certificate) -> str:
    """Benchmark figures of each engine against the reference, on the same rows."""
    lines = ["| engine | benchmark | metric | difference (95%) | rows |", "|---|---|---|---|---|"]
    for name, one in certificate.columns.items():
        for benchmark, found in one.drift.items():
            lines.append(f"| {name} | {benchmark} | {found.metric} | {_difference(found)} | {found.n} |")
    return "\n".join(lines)


def share(part: Part) -> str:
    """A share with its interval, as `1.3% (0.4–3.6), n = 240`."""
    if part.value is None:
        return "none asked"
    if part.ci_low is None or part.ci_high is None:
        return f"{part.value:.1%}, n = {part.n}"
    return f"{part.value:.1%} ({100 * part.ci_low:.1f}–{100 * part.ci_high:.1f}), n = {part.n}"


def _difference(found: Difference) -> str:
    if found.difference is None:
        return "undefined"
    if found.ci_low is None or found.ci_high is None:
        return f"{found.difference:+.3f} (no interval)"
    return f"{found.difference:+.3f} ({found.ci_low:+.3f} to {found.ci_high:+.3f})"


def _tokens(tokens: Tokens) -> str:
    return f"{tokens.equal} of {tokens.of} equal"


def terminal(certificate: Certificate) -> str:
    """A few lines for the person watching."""
    lines = [f"parity: {certificate.questions} questions and {certificate.texts} hostile texts in every engine"]
    for name, one in certificate.columns.items():
        if name == certificate.reference:
            continue
        same = "the same prompts" if one.encoded.all_equal else f"{one.encoded.of - one.encoded.equal} other prompts"
        lines.append(
            f"  {name}: {same}, flips {share(one.flips)}, mean Δp {one.gap.mean:.4f},"
            f" KL {one.divergence.mean:.1e}: {'the same judge' if one.within else 'NOT the same judge'}"
        )
    return "\n".join(lines)
