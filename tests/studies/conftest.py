"""Settings of studies: with the options that these have of their own."""
import pytest

from studies import audit, carryover, fidelity, paper, tradeoff


@pytest.fixture
def settings(settings):
    own = {key: option for study in (audit, carryover, fidelity, paper, tradeoff) for key, option in study.OWN.items()}
    return lambda *arguments: settings(*arguments, own=own)
