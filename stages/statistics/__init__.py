"""Statistics of predictions: metrics, intervals, tests, calibration, ranking."""
