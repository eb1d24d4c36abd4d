"""What the numbers of a comparison say, in words."""

from rad_jax.comparison.runs import Comparison
from rad_jax.reports.statistics import Scores
from rad_jax.reports.text import error_text, number, side

SIDES = {"above": "better", "below": "worse", "equal": "the same within two standard errors"}


def verdict(comparison: Comparison, scores: Scores) -> str:
    """Names the best variant, and compares it with no memory, all variants with the best floor, and frame- with chunk-wise."""
    names, baseline, floor = (
        [run.name for run in comparison.variants],
        comparison.baseline,
        scores.best_floor(),
    )
    best = max(names, key=scores.psnr)
    sentences = [
        f"{scores.name}: of {len(names)} variants {best} has the highest PSNR, {number(scores.psnr(best))} dB."
    ]
    if baseline and baseline.name == best:
        sentences.append("It has no memory: on this set memory does not pay.")
    elif baseline:
        gap = scores.difference(best, baseline.name)
        error = error_text(gap["standard_error"])
        words = " ".join(filter(None, [number(gap["mean"], sign=True), error, "dB"]))
        sentences.append(f"That is {words} against no memory ({baseline.name}).")
    if floor:
        above = [name for name in names if side(scores.difference(name, floor)) == "above"]
        few = f": {', '.join(above)}" if 0 < len(above) <= 4 else ""
        clearly = " by more than two standard errors" if len(scores.videos) > 1 else ""
        sentences.append(
            f"The best trivial predictor, {floor}, has {number(scores.psnr(floor))} dB; {len(above)} of "
            f"{len(names)} variants are above it{clearly}{few}."
        )
    found = {where: [] for where in SIDES}
    for memory in comparison.memories:
        frame, chunk = comparison.find(memory, "f"), comparison.find(memory, "c")
        if frame and chunk:
            found[side(scores.difference(frame.name, chunk.name))].append(memory)
    phrases = [f"{SIDES[where]} for {', '.join(memories)}" for where, memories in found.items() if memories]
    if phrases:
        sentences.append(f"Frame-wise against chunk-wise, PSNR is {'; '.join(phrases)}.")
    return " ".join(sentences)
