import re

import pytest
import yaml

from src.common.errors import InputError
from src.common.stage import main
from src.common.values import read_comments
from src.config import DEFAULT_CONFIG, GROUPS, REMOVED, load_config, options_table, shipped


def test_defaults_are_those_of_the_readme():
    config = load_config([])
    assert (config.dataset, config.train_epochs, config.batch_size, config.num_neg) == ("ml-1m", 25, 256, 4)
    assert (config.layers, config.num_factors, config.masked) == ([64, 32, 16], 16, False)
    assert config.wv_budget == 0.6 and config.willingness_weight is None


@pytest.mark.parametrize("arguments, key, value", [
    (["--masked"], "masked", True),
    (["--masked", "True"], "masked", True),
    (["--masked=false"], "masked", False),
    (["--layers", "8,4"], "layers", [8, 4]),
    (["--layers=[8, 4, 2]"], "layers", [8, 4, 2]),
    (["--learning_rate", "1e-4"], "learning_rate", 1e-4),
    (["--willingness_weight", "2"], "willingness_weight", 2.0),
    (["--willingness_weight", "none"], "willingness_weight", None),
    (["--batch_size", "1024"], "batch_size", 1024),
    (["--masked", "--batch_size", "1024"], "masked", True),
    ([], "personal", "False"),
    (["--personal", "false", "--masked"], "personal", "False"),
    (["--personal=FALSE"], "personal", "False"),
    (["--personal", "auto"], "personal", "auto"),
])
def test_command_line_overrides(arguments, key, value):
    config = load_config(arguments)
    assert getattr(config, key) == value and type(getattr(config, key)) is type(value)


@pytest.mark.parametrize("arguments, words", [
    (["--batchsize", "8"], r"--batchsize; did you mean --batch_size\?"),
    (["--batch", "8"], "unknown option --batch"),
    (["stray"], "unknown option stray"),
    (["--batch_size", "many"], "--batch_size 'many': needs a whole number"),
    (["--batch_size", "1.5"], "--batch_size '1.5': needs a whole number"),
    (["--batch_size"], "batch_size.*expected one argument"),
    (["--masked", "perhaps"], "--masked 'perhaps': needs True or False"),
    (["--layers", "a,b"], "--layers 'a,b': needs a whole number"),
    (["--layers", ""], "--layers '': needs whole numbers"),
    (["--layers", "7,4"], "--layers 7: the first width must be even"),
    (["--layers", "8,0"], "--layers 0: must lie in"),
    (["--learning_rate", "nan"], "--learning_rate 'nan': needs a finite number"),
    (["--learning_rate", "0"], "--learning_rate 0.0: must lie in"),
    (["--wv_budget", "0"], "--wv_budget 0.0: must lie in"),
    (["--wv_budget", "1.1"], "--wv_budget 1.1: must lie in"),
    (["--prior", "1"], "--prior 1.0: must lie in"),
    (["--holdout", "0"], "--holdout 0: must lie in"),
    (["--holdout", "3"], "--holdout 3: must be 1 or 2 .*--influence_lags items"),
    (["--solver", "magic"], "--solver magic: must be one of blend, block, lissa"),
    (["--batch_size", "4", "--num_neg", "4"], "--batch_size 4: must be at least 1"),
    (["--top_k", "100"], "--top_k 100: is more than num_eval_neg 99"),
    (["--personal", "perhaps"], "--personal perhaps: must be one of auto, False"),
    (["--personal", "--masked"], "personal.*expected one argument"),
    (["--personal", "true"], "--personal True: is no more; auto serves"),
    (["--personal", "auto", "--holdout", "1"], "--personal auto: --holdout 1 leaves .*; give --personal False$"),
    (["--eval_file_name", "a/b.log"], "--eval_file_name 'a/b.log': must be a plain file name"),
    (["--weight_decay", "0.1"], "--weight_decay 0.1: decays all rows.*add --lazy_adam False"),
    (["--seeds", "1,2,1"], "names a seed twice"),
    (["--max_ratings", "2"], "--max_ratings 2: is below min_ratings"),
    (["--warmup_epochs", "3", "--train_epochs", "2"], "--warmup_epochs 3: is more than train_epochs"),
    (["--dataset", "../elsewhere"], "must be a plain name"),
    (["--config_path", "nowhere.yaml"], "nowhere.yaml: No such file"),
])
def test_errors_name_the_option_on_one_line(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        load_config(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("removed", REMOVED)
def test_what_earlier_versions_had_says_what_serves_instead(tmp_path, capsys, removed):
    key, _, value = removed.partition(" ")
    value = value or "True"
    path = tmp_path / "mine.yaml"
    for lines in (f"{key}: {value}\n", f"recipe: own\nrecipes:\n  own:\n    {key}: {value}\n"):
        path.write_text(lines)
        with pytest.raises(InputError, match=re.escape(f"{key}") + f".*: is no more; {re.escape(REMOVED[removed])}$"):
            load_config(["--config_path", str(path)])
    for arguments in ([f"--{key}", value], [f"--{key}={value}"]):
        with pytest.raises(SystemExit) as ended:
            main(lambda config: None, "run_train", "", arguments)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.count("\n") == 1
        assert re.fullmatch(rf"error: --{key}.*: is no more; {re.escape(REMOVED[removed])}\n", said)


def test_config_file_replaces_defaults_and_the_command_line_wins(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("batch_size: 512\nlearning_rate: 1\nlayers: [8, 4]\n")
    config = load_config(["--config_path", str(path), "--layers", "16,8"])
    assert (config.batch_size, config.learning_rate, config.layers, config.num_neg) == (512, 1.0, [16, 8], 4)
    assert isinstance(config.learning_rate, float)


@pytest.mark.parametrize("text, value", [("False", "False"), ("false", "False"), ("'False'", "False"), ("auto", "auto")])
def test_a_choice_that_yaml_reads_as_bool(tmp_path, text, value):
    path = tmp_path / "mine.yaml"
    path.write_text(f"personal: {text}\n")
    config = load_config(["--config_path", str(path)])
    assert config.personal == value and load_config(["--config_path", str(path), "--personal", "auto"]).personal == "auto"
    assert yaml.safe_load(yaml.safe_dump(config.as_dict())) == config.as_dict()


def test_a_recipe_replaces_defaults_and_options_win(tmp_path):
    assert load_config([]).as_dict() == load_config(["--recipe", "paper"]).as_dict()
    fast = load_config(["--recipe", "fast", "--train_epochs", "3"])
    assert (fast.batch_size, fast.lazy_adam, fast.train_epochs, fast.num_neg) == (16384, False, 3, 4)
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: fast\nbatch_size: 1000\n")
    mine = load_config(["--config_path", str(path)])
    assert (mine.batch_size, mine.learning_rate) == (1000, fast.learning_rate)
    assert load_config(["--config_path", str(path), "--recipe", "paper"]).learning_rate == 0.001
    with pytest.raises(InputError, match="--recipe slow: must be one of paper, fast, accurate, sparse, mf, lightgcn"):
        load_config(["--recipe", "slow"])
    path.write_text("recipe: slow\nrecipes:\n  slow:\n    train_epochs: 99\n")  # of the user's own
    assert load_config(["--config_path", str(path)]).train_epochs == 99


@pytest.mark.parametrize("text, words", [
    ("batchsize: 8", "unknown key 'batchsize'; did you mean --batch_size"),
    ("batch_size: many", "batch_size is 'many', but needs a whole number"),
    ("masked: 1", "masked is 1"),
    ("personal: 1", "personal is 1"),
    ("personal: maybe", "--personal maybe: must be one of auto, False"),
    ("layers: 64", "layers is 64"),
    ("batch_size: 1", "--batch_size 1: must lie in"),
    ("recipes: 3", "mine.yaml: recipes must hold names with options below them"),
    ("recipes:\n  slow: [1]", "mine.yaml: recipes must hold names with options below them"),
    ("recipes:\n  slow:\n    batchsize: 1", "mine.yaml: unknown key 'batchsize'"),
    ("a: [", "not valid YAML"),
    ("- 1", "holds no 'key: value' lines"),
])
def test_bad_config_files_are_named(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_config(["--config_path", str(path)])


def test_help_shows_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        load_config(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    words, letters = " ".join(shown.split()), "".join(shown.split())  # argparse breaks lines, at hyphens too
    for section in read_comments(DEFAULT_CONFIG).values():
        for key, text in section.items():
            if key != "recipes":
                assert f"--{key} " in words and "".join(text.split()) in letters, key


def test_every_option_has_one_group_one_section_its_help_and_a_reader():
    values, _ = shipped()
    sections = read_comments(DEFAULT_CONFIG)
    listed = [key for section in sections.values() for key in section]
    assert listed == [*values, "recipes"] and all(text for title in sections for text in sections[title].values())
    assert sorted(key for group in GROUPS.values() for key in group) == sorted(values)
    source = "".join(p.read_text() for p in (DEFAULT_CONFIG.parent / "src").rglob("*.py") if p.name != "config.py")
    # moxing_adapter and the studies read these with getattr, config.py itself reads the recipe
    by_name = {"data_url", "checkpoint_url", "recipe", "fidelity_solvers", "tradeoff_strategies", "audit_strategies",
               "carryover_strategies", "paper_models"}
    assert [key for key in values if not re.search(rf"\bconfig\.{key}\b", source) and key not in by_name] == []


def test_the_page_of_options_is_what_the_program_knows():
    assert (DEFAULT_CONFIG.parent / "docs" / "options.md").read_text() == options_table()


def test_an_option_without_a_type_and_a_type_without_an_option_are_named(tmp_path, monkeypatch):
    for text in (DEFAULT_CONFIG.read_text() + "another: 1\n", DEFAULT_CONFIG.read_text().replace("veto: False\n", "")):
        path = tmp_path / "default_config.yaml"
        path.write_text(text)
        monkeypatch.setattr("src.config.DEFAULT_CONFIG", path)
        with pytest.raises(InputError, match="but (another|veto) is missing or unknown"):
            load_config([])


@pytest.mark.parametrize("edit, arguments, key, value", [
    (("damping: 1.0", "damping: 1"), ["--damping", "0.5"], "damping", 0.5),
    (("learning_rate: 0.001", "learning_rate: 1e-3"), [], "learning_rate", 0.001),
    (("willingness_weight: null", "willingness_weight: 2"), ["--willingness_weight", "none"], "willingness_weight", None),
])
def test_editing_the_default_file_does_not_change_types(tmp_path, monkeypatch, edit, arguments, key, value):
    path = tmp_path / "default_config.yaml"
    path.write_text(DEFAULT_CONFIG.read_text().replace(*edit))
    monkeypatch.setattr("src.config.DEFAULT_CONFIG", path)
    assert getattr(load_config(arguments), key) == value


@pytest.mark.parametrize("edit, words", [
    (("dataset: ml-1m", "dataset: 100"), "dataset is 100, but must be of type str"),
    (("recipes:", "recipe_s:"), "needs each option once and the recipes"),
    (("  batch_size: 16384", "  batchsize: 16384"), "unknown key 'batchsize'"),
])
def test_a_broken_default_file_is_named(tmp_path, monkeypatch, edit, words):
    path = tmp_path / "default_config.yaml"
    path.write_text(DEFAULT_CONFIG.read_text().replace(*edit))
    monkeypatch.setattr("src.config.DEFAULT_CONFIG", path)
    with pytest.raises(InputError, match=words):
        load_config(["--recipe", "fast"])


def test_effective_settings_can_be_saved_and_read_back():
    config = load_config(["--layers", "8,4"])
    assert yaml.safe_load(yaml.safe_dump(config.as_dict())) == config.as_dict()
    assert config.replace(masked=True).masked and not config.masked
