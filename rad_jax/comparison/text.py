"""What a comparison says, in words."""

from rad_jax.comparison.plan import Comparison
from rad_jax.comparison.tables import SetResult
from rad_jax.evaluation.scores import difference
from rad_jax.reports.text import number


def verdict(comparison: Comparison, result: SetResult) -> str:
    """The best variant, what it is worth against no memory and the best trivial predictor, and frame- against chunk-wise."""
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
        sentences.append("It has no memory: here no memory pays.")
    return sentences


def _floor(comparison: Comparison, result: SetResult) -> list[str]:
    floors = [name for name, row in result.rows.items() if row["kind"] == "floor"]
    if not floors:
        return []
    floor = max(floors, key=lambda name: _psnr(result, name))
    above = [run.name for run in comparison.variants if _side(result, run.name, floor) > 0]
    few = f": {', '.join(above)}" if 0 < len(above) <= 4 else ""
    return [
        f"The best trivial predictor, {floor}, has {number(_psnr(result, floor))} dB; {len(above)} of "
        f"{len(comparison.variants)} variants are above it by more than two standard errors{few}."
    ]


def _modes(comparison: Comparison, result: SetResult) -> list[str]:
    memories = dict.fromkeys(run.memory for run in comparison.variants if run.memory != "none")
    pairs = {m: (comparison.find(m, "f"), comparison.find(m, "c")) for m in memories}
    sides = {m: _side(result, f.name, c.name) for m, (f, c) in pairs.items() if f and c}
    if not sides:
        return []
    words = {
        word: [memory for memory, side in sides.items() if side == sign]
        for word, sign in (("better", 1), ("worse", -1), ("the same within two standard errors", 0))
    }
    parts = [f"{word} for {', '.join(memories)}" for word, memories in words.items() if memories]
    return [f"Frame-wise against chunk-wise, PSNR is {'; '.join(parts)}."]


def best_variant(comparison: Comparison, result: SetResult) -> str:
    """The variant of the highest PSNR."""
    return max((run.name for run in comparison.variants), key=lambda name: _psnr(result, name))


def _psnr(result: SetResult, name: str) -> float:
    return result.rows[name]["mean"]["psnr"]


def _gap(result: SetResult, first: str, second: str) -> str:
    found = difference(result.rows[first], result.rows[second], "psnr")
    error = found["standard_error"]
    return f"{number(found['mean'], sign=True)}{'' if error is None else f' ± {number(error)}'} dB"


def _side(result: SetResult, first: str, second: str) -> int:
    """1 above, -1 below, 0 within two standard errors of the paired difference."""
    found = difference(result.rows[first], result.rows[second], "psnr")
    error = found["standard_error"]
    clear = abs(found["mean"]) > 2 * (error or 0.0)
    return 0 if not clear else 1 if found["mean"] > 0 else -1
