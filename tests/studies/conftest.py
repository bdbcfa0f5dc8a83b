"""Settings of studies, with the options that these have of their own, and simulated data."""
import pytest

from src.movielens import prepare
from studies import audit, carryover, fidelity, paper, people, product, referee, tradeoff, withdrawal


@pytest.fixture
def settings(settings):
    own = {}
    for study in (audit, carryover, fidelity, paper, people, product, referee, tradeoff, withdrawal):
        own |= study.OWN
    return lambda *arguments: settings(*arguments, own=own)


@pytest.fixture
def simulated(settings):
    """simulated(users, items, ratings, "--option", value, ...) -> Config of a simulation that the data stage has made."""
    def make(users, items, ratings, *arguments):
        config = settings("--dataset", "simulation", "--sim_users", users, "--sim_items", items, "--sim_ratings", ratings,
                          *arguments)
        prepare(config)
        return config
    return make
