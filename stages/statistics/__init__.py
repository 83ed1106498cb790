"""Numbers in, numbers out: metrics, intervals, tests, calibration, ranking."""
