"""Judge whether a result is good, fair or poor, and say why and what would improve it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LIMITS", "Verdict", "judge"]

Grade = Literal["good", "fair", "poor"]

# A judgement, not a measurement: at 25 dB the built-in street and the fox of instant-ngp show clean edges, at 21 dB
# large parts of them are blurred. Nearly every capture has a few photos without a pose: reflections, sky, a thumb.
_GOOD_PSNR, _FAIR_PSNR = 25.0, 21.0
_GOOD_SHARE, _FAIR_SHARE = 0.9, 0.6
_FEW_STEPS = 500
LIMITS = {
    "good_psnr": f"{_GOOD_PSNR:g}",
    "fair_psnr": f"{_FAIR_PSNR:g}",
    "good_share": f"{_GOOD_SHARE:.0%}",
    "fair_share": f"{_FAIR_SHARE:.0%}",
}
"""The least figures of the grades, for the pages that explain them."""
_GRADES: tuple[Grade, ...] = ("poor", "fair", "good")


@dataclass(frozen=True)
class Verdict:
    """A judgement in words.

    Args:
        grade: good, fair or poor, the worst grade of the figures.
        facts: the figures, for example "48 of 48 photos, 25.8 dB on held-out photos".
        reason: why the result is not good, or "".
        advice: what would improve it, or "".
    """

    grade: Grade
    facts: str
    reason: str = ""
    advice: str = ""

    @property
    def why(self) -> str:
        """Return the reason and the advice as sentences; "" if the result is good."""
        return f"{self.reason[:1].upper()}{self.reason[1:]}. {self.advice}" if self.reason else ""

    def __str__(self) -> str:
        return f"{self.facts}: {self.grade}"


def judge(
    registered: tuple[int, int] | None, psnr: float | None, steps: int | None = None, fitted: float | None = None
) -> Verdict | None:
    """Judge a model. Return None if no figure is known.

    Args:
        registered: the numbers of registered photos and of used photos.
        psnr: the mean PSNR of the held-out photos, in dB.
        steps: the number of training steps.
        fitted: the PSNR after the colours of each photo were fitted, in dB, which counts where the light differs
            between photos; None where it does not.
    """
    facts, found = [], []
    if registered and registered[1]:
        with_pose, used = registered
        facts.append(f"{with_pose} of {used} photos")
        grade = _grade(with_pose / used, _GOOD_SHARE, _FAIR_SHARE)
        found.append(
            (
                grade,
                f"{used - with_pose} of {used} photos could not be registered",
                "Take more photos between those: each should overlap the last by two thirds. The page marks them and "
                "says what is wrong with each.",
            )
        )
    if psnr is not None:
        if fitted is None:
            facts.append(f"{psnr:.1f} dB on held-out photos")
        else:
            facts.append(
                f"{fitted:.1f} dB on held-out photos with colours fitted, because exposure or white balance differs "
                f"between photos ({psnr:.1f} dB as rendered)"
            )
            psnr = fitted
        short = steps is not None and steps < _FEW_STEPS
        few = f"it was trained for only {steps} steps" if short else ""
        advice = (
            "Train it for longer: leave out --train.max-num-iterations."
            if short
            else "Look for blur, changing light and moving things in the photos, and photograph from more places. "
            "On a GPU, --profile full trains for longer."
        )
        reason = f"held-out photos reach only {psnr:.1f} dB"
        found.append((_grade(psnr, _GOOD_PSNR, _FAIR_PSNR), f"{reason}: {few}" if few else reason, advice))
    if not found:
        return None
    grade, reason, advice = min(found, key=lambda each: _GRADES.index(each[0]))
    good = grade == "good"
    return Verdict(grade, ", ".join(facts), "" if good else reason, "" if good else advice)


def _grade(value: float, good: float, fair: float) -> Grade:
    return "good" if value >= good else "fair" if value >= fair else "poor"
