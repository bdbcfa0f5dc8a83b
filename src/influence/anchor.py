"""An anchor: a selection vector, and the models that were trained on it. See docs/maths.md, section 5."""
from dataclasses import dataclass

import numpy as np


@dataclass
class Anchor:
    """Where influences are computed.

    parameters: list of sets of parameters of NCFs (see Network.values) that were trained on what the anchor discloses, or of
        functions without arguments that return one.
    disclosed: (n,) bool, its selection vector, in the order of dataset.user; None for everything.
    """
    parameters: list
    disclosed: np.ndarray = None
