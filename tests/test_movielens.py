import hashlib
import http.server
import json
import ssl
import threading
import urllib.error
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from src.common.errors import InputError
from src.movielens import prepare
from src.sources.download import MD5, download
from src.sources.readers import ML_100K_GENRES, read_source

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


def ml_100k():
    order = ML_100K_GENRES
    items = "".join(f"{i}|{t}||||" + "|".join(str(int(g in GENRES[i].split("|"))) for g in order) + "\n"
                    for i, t in TITLES.items())
    return {"ml-100k/u.data": lines("\t"), "ml-100k/u.item": items.encode("latin-1")}


def double_colon(encoding):
    movies = "".join(f"{i}::{t}::{GENRES[i]}\n" for i, t in TITLES.items()).encode(encoding)
    return {"ml/ratings.dat": lines("::"), "ml/movies.dat": movies, "ml/users.dat": "1::F::1::10::48067\n"}


def comma():
    movies = "movieId,title,genres\n" + "".join(f'{i},"{t}",{GENRES[i]}\n' for i, t in TITLES.items())
    ratings = "userId,movieId,rating,timestamp\n" + lines(",")
    return {"ml/ratings.csv": ratings, "ml/movies.csv": movies, "ml/tags.csv": "x\n"}


@pytest.mark.parametrize("members", [ml_100k(), double_colon("latin-1"), double_colon("utf-8"), comma()],
                         ids=["ml-100k", "ml-1m", "ml-10m", "ml-20m"])
def test_each_layout_gives_the_same_dataset(tmp_path, settings, members):
    config = settings("--archive", zip_of(tmp_path / "some.zip", members))
    prepare(config)
    folder = tmp_path / "data" / "tiny"
    ratings = pd.read_csv(folder / "ratings.csv")
    assert list(ratings.columns) == ["user_id", "item_id", "rating", "timestamp"]
    assert [tuple(row) for row in ratings.to_numpy().tolist()] == ROWS
    movies = pd.read_csv(folder / "movies.csv")
    assert movies.set_index("item_id").title.to_dict() == TITLES
    assert movies.set_index("item_id").genres.to_dict() == GENRES
    record = json.loads((folder / "dataset.json").read_text())
    assert (record["num_users"], record["num_items"], record["num_ratings"]) == (2, 4, 7)


def test_recbole_files(tmp_path, settings):
    inter = tmp_path / "x.inter"
    inter.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + lines("\t"))
    (tmp_path / "x.item").write_text("item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
                                     "10\tHeat\t1995\tAction Crime\n40\tAlien\t1979\tHorror\n")
    prepare(settings("--archive", inter))
    movies = pd.read_csv(tmp_path / "data" / "tiny" / "movies.csv", keep_default_na=False)
    assert movies.values.tolist() == [[10, "Heat (1995)", "Action|Crime"], [20, "", ""], [30, "", ""],
                                      [40, "Alien (1979)", "Horror"]]


def test_recbole_files_with_text_ids(tmp_path, settings):
    inter = tmp_path / "x.inter"
    inter.write_text("user_id:token\titem_id:token\n" + "".join(f"u{u}\tB00{i}\n" for u, i, _, _ in ROWS))
    prepare(settings("--archive", inter))
    ratings = pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv")
    assert ratings.item_id.tolist()[:2] == ["B0010", "B0020"]


@pytest.mark.parametrize("column, text, genres", [
    ("class:token_seq", "Action Sci-Fi", "Action|Sci-Fi"), ("type:token_seq", "Drama Comedy", "Drama|Comedy"),
    ("genre:token_seq", "(no genres listed)", "(no genres listed)"), ("category_id:token", "28", "28"),
    ("categories:token", "Video Games", "Video Games"), ("category_id:token_seq", "28 007", "28|007"),
    ("brand:token", "X", ""),
])
def test_recbole_genres_by_whatever_name(tmp_path, settings, column, text, genres):
    inter = tmp_path / "x.inter"
    rows = lines("\t", [(1, "10", 1), (1, "007", 2), (1, 3, 3)])
    inter.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + rows)
    (tmp_path / "x.item").write_text(f"item_id:token\tmovie_title:token_seq\t{column}\n10\tHeat\t{text}\n007\tSpy\t{text}\n")
    prepare(settings("--archive", inter))
    movies = pd.read_csv(tmp_path / "data" / "tiny" / "movies.csv", dtype=str, keep_default_na=False)
    assert movies.values.tolist() == [["007", "Spy", genres], ["10", "Heat", genres], ["3", "", ""]]


def test_a_list_of_items_that_is_put_there_later_is_noticed(tmp_path, settings):
    inter = tmp_path / "x.inter"
    inter.write_text("user_id:token\titem_id:token\n" + "".join(f"1\t{i}\n" for i in (10, 20, 30)))
    prepare(settings("--archive", inter))
    (tmp_path / "x.item").write_text("item_id:token\tname:token_seq\n10\tHeat\n")
    prepare(settings("--archive", inter))
    assert "10,Heat" in (tmp_path / "data" / "tiny" / "movies.csv").read_text()


def test_csv_without_rating_and_timestamp_keeps_the_order_of_its_rows(tmp_path, settings):
    path = tmp_path / "x.csv"
    path.write_text("item_id,user_id\n3,1\n1,1\n2,1\n")
    prepare(settings("--archive", path))
    assert pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv").values.tolist() == [
        [1, 3, 1, 0], [1, 1, 1, 1], [1, 2, 1, 2]]


def test_filters_keep_users_by_number_of_ratings(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive, "--max_ratings", 3))
    folder = tmp_path / "data" / "tiny"
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1}
    assert pd.read_csv(folder / "movies.csv").item_id.tolist() == [10, 20, 30]  # the catalogue is what occurs
    prepare(settings("--archive", archive, "--min_ratings", 4))
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {2}
    with pytest.raises(InputError, match="--min_ratings 5.*they have 3 to 4"):
        prepare(settings("--archive", archive, "--min_ratings", 5))
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {2}  # nothing lost


def test_duplicates_are_an_error_unless_a_rule_is_chosen(tmp_path, settings):
    path = tmp_path / "x.csv"
    path.write_text("user_id,item_id,rating,timestamp\n1,1,5,30\n1,1,2,10\n1,2,3,20\n1,3,3,40\n")
    with pytest.raises(InputError, match="x.csv: 1 user-item pairs occur more than once, e.g. user 1, item 1"):
        prepare(settings("--archive", path))
    assert not (tmp_path / "data" / "tiny" / "ratings.csv").exists()
    for rule, rating in (("last", 5), ("first", 2)):
        prepare(settings("--archive", path, "--duplicates", rule))
        ratings = pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv")
        assert ratings[ratings.item_id == 1].rating.tolist() == [rating]


@pytest.mark.parametrize("content, words", [
    ("", "is empty"),
    ("user_id,item_id\n", "holds no ratings"),
    ("who,what\n1,2\n", r"has no column user_id, item_id \(columns: who, what\)"),
    ("user_id,item_id,rating\n1,1,5\n1,2,good\n", "row 2 has 'good' as rating"),
    ("user_id,item_id,timestamp\n1,1,5\n1,2,noon\n", "row 2 has 'noon' as timestamp"),
    ("user_id,item_id,timestamp\n1,1,5\n1,,3\n", "row 2 has nothing as item_id"),
    ("user_id,item_id,timestamp\n1,1,5\n1,2\n", "row 2 has nothing as timestamp"),
    ("user_id,item_id,timestamp\n1,1,5\n1,2,3,4,5\n", "more fields than the header|not in the expected columns"),
    ("user_id,item_id\n1,1,5\n1,2,6\n", "more fields than the header"),
    ("user_id,item_id,timestamp\n1,1,5\n1,2,1e19\n", "row 2 has .*1e.?19.* as timestamp"),
    ("user_id,userId,item_id\n1,1,5\n", "has the column user_id twice"),
    (b"user_id,item_id\n1,\xff\n", "is not UTF-8 text"),
])
def test_bad_csv_files_are_named(tmp_path, settings, content, words):
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"x.csv: .*{words}") as error:
        prepare(settings("--archive", path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data" / "tiny").exists()


def test_bad_archives_are_named(tmp_path, settings):
    whole = zip_of(tmp_path / "x.zip", comma()).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match="cut.zip: cannot be read"):
        read_source(tmp_path / "cut.zip")
    broken = bytearray(whole)
    broken[whole.index(b"1,10,5") + 2] ^= 1  # same length, other content: the checksum inside the zip tells
    (tmp_path / "broken.zip").write_bytes(broken)
    with pytest.raises(InputError, match="broken.zip: cannot be read.*CRC"):
        read_source(tmp_path / "broken.zip")
    for name in ("../ratings.csv", "/etc/ratings.csv", "C:\\ratings.csv"):
        with pytest.raises(InputError, match="points outside"):
            read_source(zip_of(tmp_path / "out.zip", {**comma(), name: "x"}))
    with pytest.raises(InputError, match="holds none of u.data"):
        read_source(zip_of(tmp_path / "other.zip", {"readme.txt": "hello"}))
    with pytest.raises(InputError, match="line 2 is not ID::TITLE::GENRES"):
        read_source(zip_of(tmp_path / "m.zip", {"ratings.dat": lines("::"), "movies.dat": "1::A::B\n2::A\n"}))
    with pytest.raises(InputError, match="holds ratings.csv twice"):
        read_source(zip_of(tmp_path / "two.zip", {**comma(), "other/ratings.csv": "x"}))
    with pytest.raises(InputError, match="u.item: line 1 is not in columns"):
        read_source(zip_of(tmp_path / "k.zip", {**ml_100k(), "ml-100k/u.item": "1,Heat\n"}))
    read_source(zip_of(tmp_path / "fine.zip", {**comma(), "./": "", "ratings.csv/": ""}))  # folders are passed over
    (tmp_path / "x.parquet").write_text("x")
    with pytest.raises(InputError, match="unknown kind of file"):
        read_source(tmp_path / "x.parquet")


def test_every_damage_of_a_zip_is_one_line(tmp_path):
    whole = tmp_path / "x.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in comma().items():
            archive.writestr(name, content)
    content = whole.read_bytes()
    refused = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.zip").write_bytes(damaged)
        try:
            read_source(tmp_path / "damaged.zip")
        except InputError as e:
            refused += 1
            assert "damaged.zip" in str(e) and "\n" not in str(e)
    assert refused > len(content) / 2


@pytest.mark.parametrize("members, words", [
    ({"x.test.inter": "", "x.train.inter": ""}, "holds x.test.inter and x.train.inter; give a zip with one file"),
    ({**comma(), "ml/u.data": lines("\t")}, "holds u.data and ratings.csv; give a zip with one"),
    ({**comma(), "other/Movies.csv": "x"}, "holds Movies.csv twice"),
])
def test_a_zip_that_leaves_a_doubt_is_refused(tmp_path, members, words):
    with pytest.raises(InputError, match=words):
        read_source(zip_of(tmp_path / "x.zip", members))


def test_names_in_a_zip_may_have_any_case(tmp_path, settings):
    members = {name.upper(): content for name, content in comma().items()}
    prepare(settings("--archive", zip_of(tmp_path / "x.zip", {**members, "__MACOSX/ML/RATINGS.CSV": "x"})))
    assert len(pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv")) == len(ROWS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_the_titles_of_ml_100k_may_be_utf_8(tmp_path, settings, encoding):
    members = ml_100k()
    members["ml-100k/u.item"] = members["ml-100k/u.item"].decode("latin-1").encode(encoding)
    prepare(settings("--archive", zip_of(tmp_path / "x.zip", members)))
    assert pd.read_csv(tmp_path / "data" / "tiny" / "movies.csv").title.tolist() == list(TITLES.values())


def test_a_title_with_a_line_break_is_written_on_one_line(tmp_path, settings):
    movies = 'movieId,title,genres\n10,"He\rat\n(1995)\x1b[2J",Crime\n20,"Jaws ""2"", a",\n'
    config = settings("--archive", zip_of(tmp_path / "x.zip", {**comma(), "ml/movies.csv": movies}))
    prepare(config)
    lines_written = (tmp_path / "data" / "tiny" / "movies.csv").read_bytes().split(b"\n")
    assert lines_written[1:3] == [b"10,He at (1995) [2J,Crime", b'20,"Jaws ""2"", a",'] and len(lines_written) == 6


def test_what_cannot_be_prepared_is_named(tmp_path, settings):
    with pytest.raises(InputError, match="--archive .*nowhere.zip: no such file"):
        prepare(settings("--archive", tmp_path / "nowhere.zip"))
    with pytest.raises(InputError, match="--archive .*: is a folder; give the path of a .zip"):
        prepare(settings("--archive", tmp_path))
    with pytest.raises(InputError, match="--dataset tiny: neither in .* nor one that can be downloaded"):
        prepare(settings())
    with pytest.raises(InputError, match="masked datasets are written by preprocess.py"):
        prepare(settings("--dataset", "masked_tiny"))
    with pytest.raises(InputError, match="the dataset simulation is generated"):
        prepare(settings("--dataset", "simulation", "--archive", "x.zip"))


def test_a_dataset_that_is_there_is_kept_and_made_anew_when_asked(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    ratings = tmp_path / "data" / "tiny" / "ratings.csv"
    ratings.write_text("mine")
    prepare(settings("--archive", archive))
    prepare(settings())  # the source is not needed any more
    assert ratings.read_text() == "mine"
    prepare(settings("--archive", archive, "--overwrite"))
    assert ratings.read_text() != "mine"


def test_remaking_a_dataset_keeps_what_others_put_beside_it(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    folder = tmp_path / "data" / "tiny"
    (folder / "unwillingness.csv").write_text("mine")
    prepare(settings("--archive", archive, "--max_ratings", 3))
    assert (folder / "unwillingness.csv").read_text() == "mine"
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1}
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["tiny"]


def test_a_stop_while_a_dataset_is_replaced_loses_nothing(tmp_path, settings, monkeypatch):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    folder = tmp_path / "data" / "tiny"
    (folder / "unwillingness.csv").write_text("mine")
    rename, renamed = Path.rename, []

    def stop_at_the_second(path, target):
        renamed.append(path)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return rename(path, target)
    monkeypatch.setattr(Path, "rename", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings("--archive", archive, "--max_ratings", 3))
    monkeypatch.undo()
    assert not folder.exists()
    prepare(settings("--archive", archive, "--max_ratings", 3))
    assert (folder / "unwillingness.csv").read_text() == "mine"
    assert set(pd.read_csv(folder / "ratings.csv").user_id) == {1}


def test_an_incomplete_dataset_is_made_anew(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    (tmp_path / "data" / "tiny" / "movies.csv").unlink()
    prepare(settings("--archive", archive))
    assert (tmp_path / "data" / "tiny" / "movies.csv").exists()


def test_overwrite_mends_a_damaged_record(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    prepare(settings("--archive", archive))
    record = tmp_path / "data" / "tiny" / "dataset.json"
    record.write_text("{")
    with pytest.raises(InputError, match="dataset.json: not valid JSON .*--overwrite"):
        prepare(settings("--archive", archive))
    prepare(settings("--archive", archive, "--overwrite"))
    assert json.loads(record.read_text())["num_ratings"] == len(ROWS)


def test_another_filter_without_the_source_asks_for_it(tmp_path, settings):
    prepare(settings("--archive", zip_of(tmp_path / "x.zip", comma())))
    with pytest.raises(InputError, match="was made with other filters .*min_ratings=3.*give its file again"):
        prepare(settings("--max_ratings", 3))


def test_a_dataset_put_there_by_hand_is_left_alone(write_ratings, settings):
    folder = write_ratings([(1, 2, 3)])
    before = (folder / "ratings.csv").read_text()
    prepare(settings())
    assert (folder / "ratings.csv").read_text() == before


def test_simulation_is_prepared_with_unwillingness(tmp_path, settings):
    size = ["--sim_users", 20, "--sim_items", 40, "--sim_ratings", 200]
    prepare(settings("--dataset", "simulation", *size))
    folder = tmp_path / "data" / "simulation"
    first = (folder / "ratings.csv").read_bytes()
    assert len(pd.read_csv(folder / "unwillingness.csv")) == 200
    movies = pd.read_csv(folder / "movies.csv")
    assert movies.title.str.contains("No.").all() and movies.genres.notna().all()
    prepare(settings("--dataset", "simulation", *size, "--seed", 2))  # another seed: made anew
    assert (folder / "ratings.csv").read_bytes() != first


def test_an_unwillingness_that_was_changed_by_hand_is_not_replaced(tmp_path, settings, caplog):
    size = ["--dataset", "simulation", "--sim_users", 20, "--sim_items", 40, "--sim_ratings", 200]
    prepare(settings(*size))
    folder = tmp_path / "data" / "simulation"
    table = pd.read_csv(folder / "unwillingness.csv")
    table.assign(unwillingness=1.0).to_csv(folder / "unwillingness.csv", index=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="unwillingness.csv: was changed since the simulation wrote it, .*move it"):
        prepare(settings(*size, "--seed", 2))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for _ in range(2):  # the same data again: it still fits
        prepare(settings(*size, "--overwrite"))
        assert (folder / "unwillingness.csv").read_bytes() == before["unwillingness.csv"] and "and is kept" in caplog.text
    (folder / "unwillingness.csv").unlink()
    prepare(settings(*size, "--seed", 2))
    assert not (pd.read_csv(folder / "unwillingness.csv").unwillingness == 1).all()


def test_a_folder_that_is_a_link_stays_one(tmp_path, settings):
    archive = zip_of(tmp_path / "x.zip", comma())
    disk = tmp_path / "disk" / "there"
    disk.mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(disk)
    for flags in ([], ["--overwrite"], ["--max_ratings", 3]):
        prepare(settings("--archive", archive, *flags))
        assert (tmp_path / "data" / "tiny").is_symlink() and (disk / "ratings.csv").exists()
        assert [path.name for path in disk.parent.iterdir()] == ["there"]
    assert set(pd.read_csv(disk / "ratings.csv").user_id) == {1}


def test_a_certificate_that_cannot_be_verified_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(InputError, match="certificate has expired.*its certificate or this machine's clock") as error:
        download("https://x.org/x.zip", tmp_path / "x.zip")
    assert "resumes" not in str(error.value)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` under any path; breaks the first `breaks` transfers in the middle; knows ranges if `ranges`."""
    content, sum_file, breaks, ranges, requests = b"", None, 0, True, []

    def do_GET(self):
        cls = type(self)
        cls.requests.append((self.path, self.headers.get("Range")))
        if self.path.endswith("missing.zip") or self.path.endswith(".md5") and cls.sum_file is None:
            return self.send_error(404)
        body, start = cls.sum_file if self.path.endswith(".md5") else cls.content, 0
        if self.headers.get("Range") and cls.ranges:
            start = int(self.headers["Range"][len("bytes="):-1])
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        part = body[start:]
        if cls.breaks:
            cls.breaks -= 1
            part = part[:len(part) // 2]
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A fresh Server class that is being served on the loopback address, as (class, address)."""
    handler = type("OneServer", (Server,), {"requests": [], "content": zip_of(tmp_path / "s.zip", comma()).read_bytes()})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.mark.parametrize("ranges", [True, False])
def test_download_resumes_after_a_broken_transfer(server, tmp_path, ranges):
    handler, address = server
    handler.breaks, handler.ranges = 1, ranges
    path = download(f"{address}/x.zip", tmp_path / "x.zip", md5(handler.content))
    assert path.read_bytes() == handler.content
    assert handler.requests == [("/x.zip", None), ("/x.zip", f"bytes={len(handler.content) // 2}-")]
    assert not (tmp_path / "x.zip.part").exists()


def test_download_keeps_what_came_and_a_later_run_goes_on(server, tmp_path):
    handler, address = server
    handler.breaks = 99
    with pytest.raises(InputError, match="x.zip: the download failed.*bytes are kept.*--archive.*--mirror"):
        download(f"{address}/x.zip", tmp_path / "x.zip")
    kept = (tmp_path / "x.zip.part").stat().st_size
    assert 0 < kept < len(handler.content) and not (tmp_path / "x.zip").exists()
    handler.breaks = 0
    assert download(f"{address}/x.zip", tmp_path / "x.zip").read_bytes() == handler.content
    assert handler.requests[-1][1] == f"bytes={kept}-"


def test_download_with_a_wrong_sum_is_not_used(server, tmp_path):
    handler, address = server
    with pytest.raises(InputError, match="another MD5 sum"):
        download(f"{address}/x.zip", tmp_path / "x.zip", "0" * 32)
    assert not list(tmp_path.glob("x.zip*"))


def test_download_from_no_address(tmp_path):
    with pytest.raises(InputError, match="nonsense/x.zip: the download failed"):
        download("nonsense/x.zip", tmp_path / "x.zip")


def test_download_that_is_hopeless_is_tried_once(server, tmp_path):
    handler, address = server
    with pytest.raises(InputError, match="missing.zip: the download failed"):
        download(f"{address}/missing.zip", tmp_path / "missing.zip")
    assert len(handler.requests) == 1


def test_known_dataset_is_downloaded_from_the_mirror(server, tmp_path, settings, monkeypatch):
    handler, address = server
    monkeypatch.setitem(MD5, "ml-100k", md5(handler.content))
    prepare(settings("--dataset", "ml-100k", "--mirror", address + "/"))
    assert len(pd.read_csv(tmp_path / "data" / "ml-100k" / "ratings.csv")) == len(ROWS)
    assert handler.requests == [("/ml-100k.zip", None)]


@pytest.mark.parametrize("published", [True, False])
def test_sum_of_the_changing_release_is_fetched(server, settings, published):
    handler, address = server
    if published:
        handler.sum_file = b"0" * 32 + b"  ml-latest-small.zip\n"
        with pytest.raises(InputError, match="another MD5 sum"):
            prepare(settings("--dataset", "ml-latest-small", "--mirror", address))
    else:
        prepare(settings("--dataset", "ml-latest-small", "--mirror", address))
