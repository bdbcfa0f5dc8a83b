import numpy as np
import pytest

from src.candidates import evaluation_candidates
from src.dataset import load_dataset
from src.metrics import hit_ratio_of_ranks, ranks
from src.movielens import prepare
from src.network import build, score
from src.sources.simulation import GENRE_NAMES, simulate
from src.training.trainer import Trainer
from tests.small import refused


@pytest.fixture(scope="module")
def simulated():
    return simulate(300, 900, 9000, seed=3)


def test_size_is_exactly_what_was_asked_and_columns_hold_what_they_say(simulated):
    ratings, movies, unwillingness = simulated
    assert (len(ratings), ratings.user_id.nunique(), ratings.item_id.nunique()) == (9000, 300, 900)
    assert (len(movies), len(unwillingness)) == (900, 9000)
    assert not ratings.duplicated(["user_id", "item_id"]).any() and ratings.groupby("user_id").size().min() >= 3
    assert set(ratings.rating) == {1, 2, 3, 4, 5} and (ratings.groupby("user_id").timestamp.diff().dropna() > 0).all()
    assert unwillingness.unwillingness.between(0, 1).all() and movies.title.is_unique
    assert set("|".join(movies.genres).split("|")) <= set(GENRE_NAMES)
    assert ratings.item_id.value_counts().iloc[:90].sum() > 2 * 9000 / 10  # popularity is skewed
    one, again, other = (simulate(30, 40, 300, seed)[0] for seed in (1, 1, 2))
    assert one.equals(again) and not one.equals(other)


def test_users_have_tastes(simulated):
    ratings, movies, _ = simulated
    first_genre = movies.genres.str.split("|").str[0].to_numpy()[ratings.item_id - 1]
    share = ratings.assign(genre=first_genre).groupby("user_id").genre.agg(lambda g: g.value_counts(normalize=True).iloc[0])
    shuffled = ratings.assign(genre=np.random.default_rng(0).permutation(first_genre)).groupby("user_id").genre.agg(
        lambda g: g.value_counts(normalize=True).iloc[0])
    assert share.mean() > 1.4 * shuffled.mean()


def test_unwillingness_depends_on_genre(simulated):
    _, movies, unwillingness = simulated
    genre = movies.genres.to_numpy()[unwillingness.item_id - 1]
    table = unwillingness.assign(genre=genre)
    within = table.unwillingness - table.groupby(["user_id", "genre"]).unwillingness.transform("mean")
    assert within.std() < 0.3 * table.unwillingness.std()


def test_impossible_sizes_are_refused():
    for size, named in (((100, 50, 200), "at least 3 a user"), ((10, 50, 400), "at most 250")):
        with refused("--sim_ratings", named):
            simulate(*size, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(6040, 3706, 1_000_209), (138_000, 27_000, 20_000_000)])
def test_large_sizes(size):
    ratings, _, _ = simulate(*size, seed=1)
    assert (ratings.user_id.nunique(), ratings.item_id.nunique(), len(ratings)) == size


def test_ncf_learns_what_popularity_does_not_know(cpu, settings):
    config = settings("--dataset", "simulation", "--train_epochs", 6, "--batch_size", 1024, "--learning_rate", 0.005)
    prepare(config)
    dataset = load_dataset(config)
    candidates = evaluation_candidates(dataset, "test", config)
    popularity = np.bincount(dataset.item, minlength=dataset.num_items)[candidates] + 0.0
    popularity[:, 0] += 0.5  # even with every tie in its favour
    net = build(dataset, config)
    trainer = Trainer(net, dataset, config, "CPU")
    for number in range(config.train_epochs):
        trainer.epoch(number)
    ours, theirs = (hit_ratio_of_ranks(ranks(scores), 10) for scores in (score(net, candidates, 100_000), popularity))
    assert ours > theirs + 0.15
