"""A rule for noise levels of the example's own."""

import math


def arctan(clock, steps):
    """As many levels as steps, even in arctan(sigma / alpha), the noisiest first."""
    first, last = math.atan(clock.highest), math.atan(clock.lowest)
    return [clock.of(math.tan(first + (last - first) * k / steps)) for k in range(steps)]
