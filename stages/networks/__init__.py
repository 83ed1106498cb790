"""Pretrained networks: builders, weights, inference engines and forward passes."""

import sys

# Where this is missing OpenVINO does without; else it tells its maker of each import and each conversion, by a copy of
# the process for each of a dozen messages, which takes longer than to convert a small network.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
