"""How a number is written: with as many digits as say something, the same in Python as in js/text.ts."""

import math

SMALLEST = 5e-4
"""A smaller number is written with an exponent."""


def precise(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """One number with at least two digits that count; "0" only where it is exactly 0.

    Args:
        value: Any number.
        digits: Decimals, where so many show two digits.
        signed: Whether a positive number has its sign, too.

    Example:
        >>> precise(12.34), precise(0.0021), precise(-8.84e-6, 4), precise(0.0), precise(0.15, 4, signed=True)
        ('12.34', '0.0021', '-8.8e-6', '0', '+0.1500')
        >>> precise(float("nan")), precise(float("inf"))
        ('NaN', '+∞')
    """
    size = abs(value)
    if size == 0:
        return "0"
    if size < SMALLEST:
        mantissa, power = f"{value:+.1e}".split("e")
        return (mantissa if signed else mantissa.removeprefix("+")) + f"e{int(power)}"
    return _fixed(value, _decimals(size, digits) if math.isfinite(size) else digits, signed)


def in_table(value: float, most: float, digits: int = 2, *, signed: bool = False) -> str:
    """A number of a table whose largest is `most`: all have the decimals that show two digits of the largest.

    Args:
        value: Any number.
        most: The largest absolute value of the table.
        digits: Decimals, where so many show two digits of the largest.
        signed: Whether a positive number has its sign, too.

    Example:
        >>> in_table(0.0042, 0.0312), in_table(-0.0001, 0.0312), in_table(1e-7, 8.8e-6)
        ('0.004', '0.000', '1.0e-7')
    """
    if 0 < most < SMALLEST:
        return precise(value, digits, signed=signed)
    return _fixed(value, _decimals(most, digits) if most > 0 else digits, signed)


def _decimals(size: float, least: int) -> int:
    return max(least, 1 + math.ceil(-math.log10(size)))


def _fixed(value: float, digits: int, signed: bool) -> str:
    """With so many decimals; no sign before zeros, what is not finite by name."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+∞" if value > 0 else "-∞"
    words = f"{value:+.{digits}f}"
    return words if words.strip("+-0.") and (signed or value < 0) else words[1:]
