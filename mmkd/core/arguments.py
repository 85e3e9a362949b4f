"""Is this argument a valid number?"""
import math


def finite_number(name: str, value: float, least: float = -math.inf) -> float:
    """Check that an argument is a finite number, and convert it to float.

    Args:
        name (str): Name of the argument, for error messages.
        value (float): Its value.
        least (float): Lower bound, inclusive. Defaults to -inf.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is infinite, NaN, or less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f'`{name}` must be a number, but got {value!r}; write one, such as 1.0')
    if not math.isfinite(value):
        raise ValueError(f'`{name}` must be finite, but got {value}; write a number such as 1.0')
    if value < least:
        raise ValueError(f'`{name}` must be {least} or more, but got {value}; write a number such '
                         'as 1.0')
    return float(value)


def whole_number(name: str, value: int, least: int = 0) -> int:
    """Check an argument.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'`{name}` must be a whole number, but got {value!r}; write one, such as '
                        f'{max(least, 1)}')
    if value < least:
        raise ValueError(f'`{name}` must be {least} or more, but got {value}; write a number such '
                         f'as {max(least, 1)}')
    return value


def temperature(tau: float) -> float:
    """Check the argument ``tau``, and convert it to float.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not finite or not greater than 0.
    """
    if finite_number('tau', tau) <= 0:
        raise ValueError(f'`tau` must be greater than 0, but got {tau}; write a number such as 1.0')
    return float(tau)


def true_or_false(name: str, value: bool) -> bool:
    """Check an argument.

    Raises:
        TypeError: If it is neither True nor False.
    """
    if not isinstance(value, bool):
        raise TypeError(f'`{name}` must be True or False, but got {value!r}; write one of the two')
    return value
