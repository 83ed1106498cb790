"""Temperature scaling: one number that calibrates the confidence of a network.

Guo, Pleiss, Sun and Weinberger 2017, "On calibration of modern neural networks", section 4.2.
"""

import numpy as np

from stages.core.predictions import apply_temperature
from stages.statistics.metrics import Classes, Probabilities

# A normal prior on ln T around 0: without it, a few images that are all right, or nearly, have the network claim
# certainty. With this standard deviation the prior weighs about as much as 4 images; benchmarks/certainty.py compares.
_PRIOR_SD = 0.5
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0


def fitted(actual: Classes, probabilities: Probabilities) -> float:
    """Return the most probable temperature, 0.05 to 20, with a normal prior on its logarithm; 1 if no other is better.

    Above 1 the network was overconfident. Below 1 only if some prediction is wrong: images that are all right say
    nothing about how often the network errs.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(actual))

    def loss(logarithm: float) -> float:
        # scikit-learn's log loss would check the same probabilities again and again, which takes ten times as long.
        claimed = apply_temperature(probabilities, float(np.exp(logarithm)))[rows, actual]
        log_loss = -float(np.log(np.maximum(claimed, np.finfo(np.float64).eps)).mean())
        return log_loss + (logarithm / _PRIOR_SD) ** 2 / 2 / len(actual)

    lowest = _MIN_TEMPERATURE if (probabilities.argmax(axis=1) != actual).any() else 1.0
    found = minimize_scalar(loss, bounds=(np.log(lowest), np.log(_MAX_TEMPERATURE)), options={"xatol": 1e-9})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
