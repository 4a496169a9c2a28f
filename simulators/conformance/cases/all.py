"""All cases, in the order in which they are told."""

from simulators.conformance.case import Case
from simulators.conformance.cases import laws, limits, rest, sizes

CASES: tuple[Case, ...] = (*laws.CASES, *limits.CASES, *rest.CASES, *sizes.CASES)
