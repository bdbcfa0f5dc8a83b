import numpy as np

from src.common.wording import counted, markdown_table, mean_and_std


def test_means_and_standard_deviations():
    assert mean_and_std([1.0, 3.0], 2) == "2.00 ± 1.41"
    assert mean_and_std([1.0], 1) == "1.0" and mean_and_std([None, np.nan]) == ""


def test_numbers_of_things():
    assert [counted(number, "seed") for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


def test_cells_of_a_table_are_shown_as_they_are_written():
    assert markdown_table(["name", "x"], [["a|b", "1"], ["*\n<i>", ""]]) == \
        "| name | x |\n|---|---|\n| a\\|b | 1 |\n| \\* &lt;i> |  |"
