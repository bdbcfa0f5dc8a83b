"""What a GroupLens zip says of its users beside their ratings: their gender, of ml-1m (users.dat) and ml-100k (u.user)."""
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pandas as pd

from ..common.columns import clean_ids, positions
from ..common.errors import InputError
from ..constants import USER

GENDER = "gender"
_LAYOUTS = {"users.dat": ("::", 1), "u.user": ("|", 2)}  # by name of the file: separator, place of the gender in a line
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def users_file_of(config):
    """Path of the zip that may know the users: that of --archive, or the downloaded one; None if there is none."""
    path = Path(config.archive) if config.archive else Path(config.data_path) / f"{config.dataset}.zip"
    return path if path.suffix.lower() == ".zip" and path.is_file() else None


def read_genders(path):
    """The users' genders in a GroupLens zip.

    Returns:
        DataFrame with user_id (text) and gender (text, as it stands there); None if the zip has no file of users.

    Raises:
        InputError: the zip is damaged, or a line is not of the form that the file's name stands for.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {PurePosixPath(name).name.lower(): name for name in archive.namelist()}
            name = next((name for name in _LAYOUTS if name in members), None)
            if name is None:
                return None
            text = archive.read(members[name]).decode("latin-1")
    except _DAMAGED as e:
        raise InputError(f"{path}: cannot be read ({e}); it may be cut short or no zip, fetch it anew") from e
    separator, place = _LAYOUTS[name]
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split(separator)
        if line.strip():
            if len(fields) <= place or not fields[place].strip():
                raise InputError(f"{path}: line {number} of {name} is not in fields separated by '{separator}' with a "
                                 f"{GENDER} among them; fetch the file anew")
            rows.append((fields[0], fields[place].strip()))
    return pd.DataFrame(rows, columns=[USER, GENDER])


def genders_of(dataset, path):
    """(num_users,) object array of the genders that a GroupLens zip has of the users of a Dataset; NaN where it has none.

    Returns None if it has no file of users. Raises InputError as read_genders does.
    """
    table = read_genders(path)
    if table is None:
        return None
    ids = clean_ids(table[USER], path, USER)
    place = positions(dataset.user_ids, ids.unique)[ids.code]
    found = pd.Series(table[GENDER].to_numpy()[place >= 0], place[place >= 0])
    return found[~found.index.duplicated()].reindex(range(dataset.num_users)).to_numpy(object)
