"""Types that all rooms share."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is to do."""

StageProgress = Callable[[int, int | None, str], None]
"""Called with how much is done, how much there is to do (None while unknown), and what is being done."""
