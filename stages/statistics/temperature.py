"""Temperature scaling: one number that makes a network as sure of itself as it has reason to be.

Guo, Pleiss, Sun and Weinberger 2017, "On calibration of modern neural networks", section 4.2.
"""

import numpy as np

from stages.core.predictions import scaled
from stages.statistics.metrics import Classes, Probabilities, log_loss

# From as sure as can be to as unsure: where every validation image is right, surer is better without an end.
_COLDEST, _HOTTEST = 0.05, 20.0


def fitted(actual: Classes, probabilities: Probabilities) -> float:
    """Return the temperature with the least log loss, 0.05 to 20; 1 where none is better than that.

    Above 1 the network was too sure of itself. The loss is convex in 1 / T, so that there is one least.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return log_loss(actual, scaled(probabilities, float(np.exp(logarithm))))

    found = minimize_scalar(loss, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), options={"xatol": 1e-9})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
