"""A simulated MovieLens: data with the traits that matter here, for runs without any download.

Popularity is skewed; each user has tastes over genres that drift over their history, so that old interactions say less
about what comes next; users stay with a genre for a few interactions, so that neighbours in time are alike, as they are in
MovieLens; and each interaction carries an unwillingness that depends on the movie's genres and the user.
"""
import numpy as np
import pandas as pd

from ..common.errors import InputError
from ..constants import ITEM, MOVIE_COLUMNS, RATING_COLUMNS, UNWILLINGNESS, USER
from ..stat_utils import PairSet, generator, parts, sample_outside
from .readers import ML_100K_GENRES

GENRE_NAMES = ML_100K_GENRES[1:]  # without "unknown"
MIN_HISTORY = 3  # ratings a user: train, validation, test
TASTE = 0.12  # concentration of the Dirichlet distribution of tastes: the smaller, the fewer genres a user likes
DRIFT = 0.5  # share of the tastes at the end of a history that is new
RUN = 6  # interactions, on average, before a user turns to another genre
POPULARITY_EXPONENT, POPULARITY_SHIFT = 0.9, 10
DAY = 86_400
YEAR_2000 = 946_684_800  # seconds since 1970
_CHUNK = 1 << 20


def simulate(num_users, num_items, num_ratings, seed):
    """Draws a data set of exactly the given size, in which every user and every item occurs.

    Returns ratings: DataFrame user_id, item_id, rating (1 to 5), timestamp (s), by user and time; movies: DataFrame item_id,
    title, genres (joined by "|"); unwillingness: DataFrame user_id, item_id, unwillingness in [0, 1], a row for each rating.
    """
    if num_ratings < max(MIN_HISTORY * num_users, num_items):
        raise InputError(f"--sim_ratings {num_ratings}: must be at least {MIN_HISTORY} a user and 1 an item "
                         f"({max(MIN_HISTORY * num_users, num_items)} for {num_users} users and {num_items} items)")
    if num_ratings > num_users * (num_items // 2):
        raise InputError(f"--sim_ratings {num_ratings}: must leave half of the items unseen by each user "
                         f"(at most {num_users * (num_items // 2)} for {num_users} users and {num_items} items)")
    rng = generator(seed, "simulation")
    genres_of = _item_genres(num_items, rng)  # (items, genres) bool
    popularity = rng.permutation((np.arange(num_items) + POPULARITY_SHIFT) ** -POPULARITY_EXPONENT)
    early = rng.dirichlet(np.full(len(GENRE_NAMES), TASTE), num_users)  # (users, genres) tastes at the start of a history
    late = (1 - DRIFT) * early + DRIFT * rng.dirichlet(np.full(len(GENRE_NAMES), TASTE), num_users)  # and at its end

    counts = _history_lengths(num_users, num_items, num_ratings, rng)
    user = np.repeat(np.arange(num_users, dtype=np.int32), counts)
    start = np.cumsum(counts) - counts
    genre = _choose_genres(user, start, counts, early, late, genres_of.any(0), rng)
    item = _choose_items(user, genre, genres_of, popularity, rng)
    _place_unseen_items(item, num_items, rng)

    def mood(rows):
        spread = rng.normal(0, 0.9, rows.stop - rows.start)
        return np.clip(np.rint(3 + 2 * _of_genres(early, user[rows], genres_of, item[rows]) + spread), 1, 5)
    rating = _filled(num_ratings, np.int8, mood)
    time = _filled(num_ratings, np.int64, lambda rows: 1 + rng.exponential(DAY / 4, rows.stop - rows.start).astype(np.int64))
    np.cumsum(time, out=time)
    begin = YEAR_2000 + rng.integers(0, 3 * 365 * DAY, num_users) - time[start]
    for rows in parts(num_ratings):
        time[rows] += begin[user[rows]]

    sensitivity = np.clip(rng.beta(0.8, 1.6, len(GENRE_NAMES)) + rng.normal(0, 0.2, (num_users, len(GENRE_NAMES))), 0, 1)

    def reluctance(rows):
        spread = rng.normal(0, 0.05, rows.stop - rows.start)
        return np.round(np.clip(_of_genres(sensitivity, user[rows], genres_of, item[rows]) + spread, 0, 1), 4)
    unwilling = _filled(num_ratings, np.float64, reluctance)

    user += 1
    item += 1
    ratings = pd.DataFrame(dict(zip(RATING_COLUMNS, (user, item, rating, time))), copy=False)
    unwillingness = pd.DataFrame({USER: user, ITEM: item, UNWILLINGNESS: unwilling}, copy=False)
    return ratings, _movies(genres_of, rng), unwillingness


def _filled(n, kind, of):
    values = np.empty(n, kind)
    for rows in parts(n, _CHUNK // 4):
        values[rows] = of(rows)
    return values


def _item_genres(num_items, rng):
    """(items, genres) bool: each item has one to three genres, some genres being more common."""
    share = rng.permutation(np.arange(1, len(GENRE_NAMES) + 1) ** -0.7)
    share /= share.sum()
    genres_of = np.zeros((num_items, len(GENRE_NAMES)), bool)
    for extra in (1.0, 0.5, 0.2):  # chance of a first, second and third genre
        has = rng.random(num_items) < extra
        genres_of[np.flatnonzero(has), rng.choice(len(GENRE_NAMES), has.sum(), p=share)] = True
    return genres_of


def _history_lengths(num_users, num_items, num_ratings, rng):
    """(users,) int: lengths that add up to num_ratings, log-normally spread, at least 3, at most half the items."""
    longest = num_items // 2
    least = max(MIN_HISTORY, min(20, num_ratings // num_users // 2))
    counts = np.full(num_users, least)
    weight = rng.lognormal(0, 1, num_users)
    while (missing := num_ratings - counts.sum()) > 0:
        room = weight * (counts < longest)
        counts = np.minimum(counts + rng.multinomial(missing, room / room.sum()), longest)
    return counts


def _choose_genres(user, start, counts, early, late, present, rng):
    """(ratings,) genre of each rating: drawn by the user's taste at its age where a run starts, then kept."""
    starts = _filled(len(user), bool, lambda rows: rng.random(rows.stop - rows.start) < 1 / RUN)
    starts[start] = True
    at = np.flatnonzero(starts)
    cumulative = [np.cumsum(t * present / np.maximum((t * present).sum(1, keepdims=True), 1e-12), axis=1)
                  for t in (early, late)]
    chosen = np.empty(len(at), np.int8)
    for part in parts(len(at), _CHUNK):
        r, u = at[part], user[at[part]]
        age = (r - start[u]) / counts[u]  # 0 = first, towards 1 = last of a history
        is_late = (rng.random(len(r)) < age)[:, None]
        taste = np.where(is_late, cumulative[1][u], cumulative[0][u])
        chosen[part] = np.minimum((taste < rng.random((len(r), 1))).sum(1), np.flatnonzero(present)[-1])
    return np.repeat(chosen, np.diff(np.r_[at, len(user)]))


def _choose_items(user, genre, genres_of, popularity, rng):
    """(ratings,) item of each rating, by popularity within its genre; no user gets an item twice."""
    by_genre = [np.flatnonzero(genres_of[:, g]) for g in range(len(GENRE_NAMES))]
    cumulative = np.concatenate([g + np.cumsum(popularity[i]) / popularity[i].sum() for g, i in enumerate(by_genre)
                                 if len(i)])  # genre g takes (g, g + 1]: one search serves all genres
    items = np.concatenate(by_genre).astype(np.int32)

    def draw(rows):
        place = np.searchsorted(cumulative, genre[rows] + rng.random(len(genre[rows])))
        return items[np.minimum(place, len(items) - 1)]

    item, rows = _filled(len(user), np.int32, draw), np.arange(len(user), dtype=np.int32)
    for _ in range(12):
        again = _repeats(user, item, len(genres_of), rows)
        if not len(again):
            return item
        item[again] = draw(again)
        drawn_anew = np.zeros(user[-1] + 1, bool)
        drawn_anew[user[again]] = True
        rows = rows[drawn_anew[user[rows]]]  # all others are known to have no repeats
    while len(again := _repeats(user, item, len(genres_of), rows)):  # few users have used up what they like
        users, own = np.unique(user[rows], return_inverse=True)
        seen = PairSet([(own, item[rows])], len(users), len(genres_of))
        item[again] = sample_outside(np.searchsorted(users, user[again]), seen, rng)[:, 0]
    return item


def _repeats(user, item, num_items, rows):
    """Those of ascending `rows` whose (user, item) pair occurred in an earlier one of them."""
    found, own, start = [rows[:0]], user[rows], 0
    while start < len(rows):
        end = np.searchsorted(own, own[min(start + _CHUNK, len(own)) - 1], side="right")  # whole users
        key = own[start:end].astype(np.int64) * num_items + item[rows[start:end]]
        found.append(rows[start:end][pd.Series(key, copy=False).duplicated().to_numpy()])
        start = end
    return np.concatenate(found)


def _place_unseen_items(item, num_items, rng):
    unseen = np.flatnonzero(np.bincount(item, minlength=num_items) == 0)
    order, spare, number = rng.permutation(len(item)), unseen[:0], max(_CHUNK, 2 * num_items)
    while len(spare) < len(unseen):
        spare = order[:number][pd.Series(item[order[:number]]).duplicated().to_numpy()]  # one rating of each item stays
        number *= 2
    item[spare[:len(unseen)]] = unseen


def _of_genres(value, user, genres_of, item):
    return np.where(genres_of[item], value[user], -np.inf).max(1)


def _movies(genres_of, rng):
    year = rng.integers(1950, 2001, len(genres_of))
    names = [[GENRE_NAMES[g] for g in np.flatnonzero(row)] for row in genres_of]
    titles = [f"{' '.join(n)} No. {k + 1} ({y})" for k, (n, y) in enumerate(zip(names, year))]
    return pd.DataFrame(dict(zip(MOVIE_COLUMNS, (np.arange(1, len(genres_of) + 1), titles, map("|".join, names)))))
