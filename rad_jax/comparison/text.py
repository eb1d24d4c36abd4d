"""What the numbers of a comparison say, in words."""

from rad_jax.comparison.plan import Comparison
from rad_jax.comparison.tables import SetResult
from rad_jax.evaluation.scores import difference
from rad_jax.reports.text import best_floor, number, side, with_error


def verdict(comparison: Comparison, result: SetResult) -> str:
    """Names the best variant, and compares it with no memory, all variants with the best floor, and frame- with chunk-wise."""
    return " ".join([*_best(comparison, result), *_floor(comparison, result), *_modes(comparison, result)])


def _best(comparison: Comparison, result: SetResult) -> list[str]:
    best = best_variant(comparison, result)
    sentences = [
        f"{result.name}: of {len(comparison.variants)} variants {best} has the highest PSNR, "
        f"{number(_psnr(result, best))} dB."
    ]
    baseline = comparison.baseline
    if baseline and baseline.name != best:
        sentences.append(f"That is {_gap(result, best, baseline.name)} against no memory ({baseline.name}).")
    elif baseline:
        sentences.append("It has no memory: on this set memory does not pay.")
    return sentences


def _floor(comparison: Comparison, result: SetResult) -> list[str]:
    floor = best_floor(result.rows)
    if floor is None:
        return []
    above = [run.name for run in comparison.variants if _side(result, run.name, floor) == "above"]
    few = f": {', '.join(above)}" if 0 < len(above) <= 4 else ""
    clearly = " by more than two standard errors" if len(result.videos) > 1 else ""
    return [
        f"The best trivial predictor, {floor}, has {number(_psnr(result, floor))} dB; {len(above)} of "
        f"{len(comparison.variants)} variants are above it{clearly}{few}."
    ]


def _modes(comparison: Comparison, result: SetResult) -> list[str]:
    memories = dict.fromkeys(run.memory for run in comparison.variants if run.memory != "none")
    pairs = {m: (comparison.find(m, "f"), comparison.find(m, "c")) for m in memories}
    sides = {m: _side(result, f.name, c.name) for m, (f, c) in pairs.items() if f and c}
    words = {"above": "better", "below": "worse", "equal": "the same within two standard errors"}
    found = {where: [memory for memory, place in sides.items() if place == where] for where in words}
    phrases = [f"{words[where]} for {', '.join(memories)}" for where, memories in found.items() if memories]
    return [f"Frame-wise against chunk-wise, PSNR is {'; '.join(phrases)}."] if phrases else []


def best_variant(comparison: Comparison, result: SetResult) -> str:
    """The variant with the highest PSNR."""
    return max((run.name for run in comparison.variants), key=lambda name: _psnr(result, name))


def _psnr(result: SetResult, name: str) -> float:
    return result.rows[name]["mean"]["psnr"]


def _gap(result: SetResult, first: str, second: str) -> str:
    found = difference(result.rows[first], result.rows[second], "psnr")
    return f"{with_error(found['mean'], found['standard_error'], sign=True)} dB"


def _side(result: SetResult, first: str, second: str) -> str:
    return side(difference(result.rows[first], result.rows[second], "psnr"))
