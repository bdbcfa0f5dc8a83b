"""A finished run that a test may change."""
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied(finished_run, tmp_path):
    """Settings of a finished run in a copy that a test may change."""
    root = Path(finished_run.output_path).parent
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return finished_run.replace(**{f"{name}_path": str(tmp_path / name) for name in ("data", "output", "checkpoint")})
