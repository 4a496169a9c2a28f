"""One weight matrix of a layer."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["outputs", "inputs", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """(inputs, outputs) elements. split: what tensor parallelism divides of it; whole: every device has all of it."""

    inputs: int
    outputs: int
    split: Split

    @property
    def weights(self) -> int:
        """Elements."""
        return self.inputs * self.outputs


def by_outputs(inputs: int, outputs: int) -> Matrix:
    """The first of a pair: each device computes some of the outputs."""
    return Matrix(inputs=inputs, outputs=outputs, split="outputs")


def by_inputs(inputs: int, outputs: int) -> Matrix:
    """The second of a pair: each device has some of the inputs; the sum over devices is an all-reduce."""
    return Matrix(inputs=inputs, outputs=outputs, split="inputs")


def whole(inputs: int, outputs: int) -> Matrix:
    """A matrix too small to be worth a split."""
    return Matrix(inputs=inputs, outputs=outputs, split="whole")
