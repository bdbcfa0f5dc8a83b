"""An anchor: a selection vector, and the models that were trained on it. See docs/maths.md, section 5."""
from dataclasses import dataclass

import numpy as np


@dataclass
class Anchor:
    """Where influences are computed.

    parameters: list of sets of parameters of a model (see Network.values) that was trained on what the anchor discloses.
    disclosed: (n,) bool, its selection vector, in the order of dataset.user; None for everything.
    """
    parameters: list
    disclosed: np.ndarray = None
