"""Section `features` of params.yaml: how the frozen networks are run."""

from typing import Literal

from pydantic import Field

from stages.core.params import Section

Engine = Literal["openvino", "tensorflow"]
Precision = Literal["float32", "bfloat16", "float16"]


class EngineParams(Section):
    """Section `features`: the engine, precision and batch size of the frozen networks."""

    engine: Literal["auto", "openvino", "tensorflow"]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    batch_size: int = Field(ge=1, le=65536)
