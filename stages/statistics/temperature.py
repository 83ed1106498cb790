"""Temperature scaling: one number that calibrates the confidence of a network.

Guo, Pleiss, Sun and Weinberger 2017, "On calibration of modern neural networks", section 4.2.
"""

import numpy as np

from stages.core.predictions import apply_temperature
from stages.statistics.metrics import Classes, Probabilities, log_loss

# Bounds: if every validation image is right, the loss keeps falling as the temperature goes to 0.
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0


def fitted(actual: Classes, probabilities: Probabilities) -> float:
    """Return the temperature with the lowest log loss, 0.05 to 20; 1 if no other is better.

    Above 1 the network was overconfident. The loss is convex in 1 / T, so that it has a single minimum.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return log_loss(actual, apply_temperature(probabilities, float(np.exp(logarithm))))

    found = minimize_scalar(loss, bounds=(np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE)), options={"xatol": 1e-9})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
