"""A small dataset in each layout that the readers know."""
import zipfile

from src.sources.readers import ML_100K_GENRES

# user, item, rating, timestamp; item 20 has a title with an accent and colons
ROWS = [(1, 10, 5, 3), (1, 20, 4, 1), (1, 30, 3, 2), (2, 10, 1, 9), (2, 20, 2, 8), (2, 30, 3, 7), (2, 40, 4, 6)]
TITLES = {10: "Heat (1995)", 20: "Amélie: a:b (2001)", 30: "Cube (1997)", 40: "Alien (1979)"}
GENRES = {10: "Action|Crime", 20: "Comedy", 30: "Horror|Sci-Fi", 40: "Horror"}


def zip_of(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def lines(separator, rows=ROWS):
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def ml_100k(encoding="latin-1"):
    order = ML_100K_GENRES
    items = "".join(f"{i}|{t}||||" + "|".join(str(int(g in GENRES[i].split("|"))) for g in order) + "\n"
                    for i, t in TITLES.items())
    return {"ml-100k/u.data": lines("\t"), "ml-100k/u.item": items.encode(encoding)}


def double_colon(encoding):
    movies = "".join(f"{i}::{t}::{GENRES[i]}\n" for i, t in TITLES.items()).encode(encoding)
    return {"ml/ratings.dat": lines("::"), "ml/movies.dat": movies, "ml/users.dat": "1::F::1::10::48067\n"}


def comma():
    movies = "movieId,title,genres\n" + "".join(f'{i},"{t}",{GENRES[i]}\n' for i, t in TITLES.items())
    ratings = "userId,movieId,rating,timestamp\n" + lines(",")
    return {"ml/ratings.csv": ratings, "ml/movies.csv": movies, "ml/tags.csv": "x\n"}
