import re

import pytest
import yaml

from src.common.stage import main
from src.common.values import read_comments
from src.config import DEFAULT_CONFIG, load_config, options_table, shipped
from src.options import GROUPS, PROGRAMS, REMOVED, options_in
from tests.small import refused


def test_defaults_are_those_of_the_readme():
    config = load_config([])
    assert yaml.safe_load(yaml.safe_dump(config.as_dict())) == config.as_dict()
    assert (config.dataset, config.train_epochs, config.batch_size, config.num_neg) == ("ml-1m", 25, 256, 4)
    assert (config.layers, config.num_factors, config.masked) == ([64, 32, 16], 16, False)
    assert config.wv_budget == 0.6 and config.willingness_weight is None


@pytest.mark.parametrize("arguments, key, value", [
    (["--masked"], "masked", True),
    (["--masked=false"], "masked", False),
    (["--layers=[8, 4, 2]"], "layers", [8, 4, 2]),
    (["--recommend", "-X9"], "recommend", "-X9"),
    (["--why", "-3", "-a b"], "why", ["-3", "-a b"]),
    (["--learning_rate", "1e-4"], "learning_rate", 1e-4),
    (["--willingness_weight", "none"], "willingness_weight", None),
    (["--masked", "--batch_size", "1024"], "masked", True),
    (["--personal", "false", "--masked"], "personal", "False"),
])
def test_command_line_overrides(arguments, key, value):
    config = load_config(arguments)
    assert getattr(config, key) == value and type(getattr(config, key)) is type(value)


@pytest.mark.parametrize("line, named", [
    ("--batchsize 8", "did you mean --batch_size"), ("--batch 8", "--batch"), ("stray", "stray"), ("-x", "-x"),
    ("--batch_size many", "needs a whole number"), ("--batch_size 1.5", "whole number"), ("--batch_size", "argument"),
    ("--batch_size --masked", "--batch_size"), ("--masked perhaps", "needs True or False"), ("--layers a,b", "--layers"),
    ("--layers=", "needs whole numbers"), ("--layers 7,4", "even"), ("--layers 8,0", "--layers 0"),
    ("--learning_rate nan", "needs a finite number"), ("--learning_rate 0", "--learning_rate 0.0"),
    ("--wv_budget 0", "--wv_budget 0.0"), ("--wv_budget 1.1", "--wv_budget 1.1"), ("--prior 1", "--prior 1.0"),
    ("--holdout -1", "--holdout -1"), ("--holdout 3", "--influence_lags"), ("--solver magic", "blend, block, lissa"),
    ("--batch_size 4 --num_neg 4", "--batch_size 4"), ("--top_k 100", "num_eval_neg 99"),
    ("--personal perhaps", "auto, False"), ("--personal --masked", "--personal"), ("--personal true", "auto serves"),
    ("--personal auto --holdout 1", "give --personal False"), ("--weight_decay 0.1", "--lazy_adam False"),
    ("--seeds 1,2,1", "--seeds"), ("--max_ratings 2", "min_ratings 3"), ("--dataset ../elsewhere", "--archive"),
    ("--warmup_epochs 3 --train_epochs 2", "train_epochs 2"),
    ("--recipe slow", "paper, fast, large, accurate, sparse, mf"), ("--why 3 --masked", "--why"), ("--why 3", "--why"),
    ("--why=3", "needs two of them"), ("--model other/IFRQE.py", "--model"), ("--solver lissa --model mf", "--solver lissa"),
    ("--eval_file_name a/b.log", "--output_path"), ("--eval_file_name eval_ncf.json", ".log"),
    ("--eval_file_name run_eval.log", ".log"), ("--model mf --layers 8,4", "--layers"),
    ("--recommend 3 --receipt 3", "--recommend and --receipt"),
])
def test_errors_name_the_option_on_one_line(line, named):
    with refused("" if "-" not in line else re.search(r"-[^ =]+", line)[0], named):
        load_config(line.split())


@pytest.mark.parametrize("removed", REMOVED)
def test_what_earlier_versions_had_says_what_serves_instead(tmp_path, capsys, removed):
    key, _, value = removed.partition(" ")
    value = value or "True"
    path = tmp_path / "mine.yaml"
    path.write_text(f"recipe: own\nrecipes:\n  own:\n    {key}: {value}\n")
    with refused(key, "is no more", REMOVED[removed]):
        load_config(["--config_path", str(path)])
    with pytest.raises(SystemExit) as ended:
        main(lambda config: None, "run_train", "", [f"--{key}", value])
    assert ended.value.code == 2
    assert re.fullmatch(rf"error: --{key}.*: is no more; {re.escape(REMOVED[removed])}\n", capsys.readouterr().err)


def test_a_recipe_replaces_defaults_and_options_win(tmp_path):
    assert load_config([]).as_dict() == load_config(["--recipe", "paper"]).as_dict()
    fast = load_config(["--recipe", "fast", "--train_epochs", "3"])
    assert (fast.batch_size, fast.lazy_adam, fast.train_epochs, fast.num_neg) == (16384, False, 3, 4)
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: fast\nbatch_size: 1000\n")
    mine = load_config(["--config_path", str(path)])
    assert (mine.batch_size, mine.learning_rate, mine.min_steps, fast.min_steps) == (1000, fast.learning_rate, 0, 100)
    assert load_config(["--config_path", str(path), "--recipe", "paper"]).learning_rate == 0.001
    path.write_text("recipe: slow\nrecipes:\n  slow:\n    train_epochs: 99\n")  # of the user's own
    assert load_config(["--config_path", str(path)]).train_epochs == 99


@pytest.mark.parametrize("text, key, value", [
    ("why: [010, i3]", "why", ["010", "i3"]),  # the number 8 to YAML 1.1
    ("recommend: 12:30", "recommend", "12:30"),  # 750
    ("recommend: 1_000", "recommend", "1_000"),
    ("recommend: no", "recommend", "no"),  # False
    ("explain_user: 2024-01-31", "explain_user", "2024-01-31"),
    ("learning_rate: 1e-3", "learning_rate", 0.001),
    ("willingness_weight: ~", "willingness_weight", None),
    ("personal: false", "personal", "False"),
    ("recipe: b\nrecipes:\n  a: &a {num_neg: 2}\n  b:\n    <<: *a\n    num_factors: 8", "num_neg", 2),
    ("recipe: b\nrecipes:\n  a: &a {num_neg: 2, num_factors: 4}\n  b: {<<: *a, num_factors: 8}", "num_factors", 8),
    ("recipe: b\nrecipes: {b: {recipe: fast, learning_rate: 0.1}}", "batch_size", 16384),
    ("recipe: c\nrecipes: {b: {recipe: fast, num_neg: 7}, c: {recipe: b}}", "num_neg", 7),
])
def test_what_stands_in_a_config_file_is_taken_as_it_stands(tmp_path, text, key, value):
    path = tmp_path / "mine.yaml"
    path.write_text(text + "\n")
    assert getattr(load_config(["--config_path", str(path)]), key) == value


@pytest.mark.parametrize("text, named", [
    ("recipe: a\nrecipes: {a: {recipe: b}, b: {recipe: a}}", ["a -> b -> a"]),
    ("recipe: a\nrecipes: {a: {recipe: slow}}", ["--recipe slow"]), ("why: [~, 3]", ["why", "needs two of them"]),
    ("recommend: ~", ["recommend None", "type str"]), ("batchsize: 8", ["batchsize", "--batch_size"]),
    ("batch_size: many", ["batch_size 'many'"]), ("masked: 2", ["masked '2'"]), ("personal: 1", ["--personal 1"]),
    ("layers: {a: 64}", ["layers", "type ints"]), ("batch_size: 1", ["--batch_size 1"]), ("recipes: 3", ["recipes"]),
    ("recipes:\n  slow: [1]", ["recipes"]), ("recipes:\n  slow:\n    batchsize: 1", ["batchsize"]),
    ("a: [", ["not valid YAML"]), ("- 1", ["mine.yaml"]), ("batch_size: 8\nbatch_size: 9", ["mine.yaml", "twice"]),
])
def test_bad_config_files_are_named(tmp_path, text, named):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with refused(*named):
        load_config(["--config_path", str(path)])


@pytest.mark.parametrize("program, line, named", [
    ("run_eval", "--withdraw f.csv", ["--withdraw", "train.py"]), ("run_eval", "--allow f.csv", ["--allow", "train.py"]),
    ("run_preprocess", "--withdraw=f.csv", ["train.py"]),
    ("run_train", "--newcomers f.csv", ["preprocess.py"]), ("run_train", "--recommend 3", ["eval.py"]),
    ("run_train", "--mirror x", ["scripts/run_download_dataset.sh"]), ("run_train", "--strategy none", ["--masked"]),
    ("run_preprocess", "--masked", ["--newcomers"]), ("run_eval", "--resume", ["train.py"]),
    ("run_eval", "--format json", ["--format"]), ("run_download_dataset", "--train_epochs 3", ["--train_epochs"]),
    ("run_tradeoff", "--fidelity_keep .5", ["run_fidelity.sh"]),
    ("run_all", "--flags_of run_train,run_eval --newcomers f", ["train.py and eval.py"]),
])
def test_an_option_that_does_nothing_in_a_program_is_refused(program, line, named):
    with refused(*named):
        load_config(line.split(), "", program)


@pytest.mark.parametrize("program, arguments", [
    ("run_train", ["--masked", "--wv_budget", "0.5"]),  # compared with what the mask was made with
    ("run_train", ["--withdraw", "f.csv"]), ("run_train", ["--allow", "f.csv"]),
    ("run_eval", ["--train_epochs", "3", "--wv_budget", "0.5", "--archive", "f.csv"]),
    ("run_eval", ["--recommend", "3", "--format", "json"]),
    ("run_preprocess", ["--newcomers", "f.csv", "--masked"]),
    ("run_train", ["--flags_of", "run_train,run_preprocess", "--strategy", "none"]),
    *((program, ["--dataset", "a", "--output_path", "b", "--seed", "3", "--enable_modelarts"]) for program in PROGRAMS),
])
def test_options_that_a_program_goes_by_or_compares_are_taken(program, arguments):
    assert load_config(arguments, "", program).given >= {a[2:] for a in arguments if a.startswith("--")} - {"flags_of"}


def test_options_of_a_shared_file_are_no_fault_of_any_program(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("strategy: none\nnewcomers: f.csv\ntradeoff_budgets: [0.5]\n")
    assert load_config(["--config_path", str(path)], "", "run_train").strategy == "none"


def test_a_program_has_options_of_its_own_and_leaves_those_of_a_study_to_it(tmp_path):
    own = {"paper_size": ("int [2, inf)", 5, "how large"), "paper_names": ("str", "a,b", "which")}
    (tmp_path / "mine.yaml").write_text("paper_size: 7\nfidelity_x: 1\n")
    found = load_config(["--config_path", str(tmp_path / "mine.yaml"), "--paper_names=c"], "", "run_paper", own)
    assert found.own == {"paper_size": 7, "paper_names": "c"} and found.given == {"paper_size", "paper_names"}
    both = ["--flags_of", "run_download_dataset,run_paper", "--paper_size", "1", "--paper_names=c", "--seed", "3"]
    assert load_config(both, "", "run_download_dataset").given == {"seed"}
    (tmp_path / "mine.yaml").write_text("paper_sise: 7\n")
    for arguments, named in ((both, "--paper_size 1"), (["--paper_size", "x"], "--paper_size 'x'"),
                             (["--paper_sise", "3"], "--paper_size"), (["--fidelity_x", "1"], "run_fidelity.sh"),
                             (["--config_path", str(tmp_path / "mine.yaml")], "mine.yaml: paper_sise")):
        with refused(named):
            load_config(arguments, "", "run_paper", own)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_of_a_program_has_its_options_in_few_lines(capsys, monkeypatch, program):
    monkeypatch.setenv("COLUMNS", "80")
    shown = {}
    for arguments in (["--help"], ["--help", "all"]):
        with pytest.raises(SystemExit):
            load_config(arguments, "", program)
        text = capsys.readouterr().out
        shown[len(arguments)] = text, set(re.findall(r"^  --(\w+)$", text, re.M))
    assert shown[1][1] == options_in(program, shown=True) | {"config_path"} and len(shown[1][0].splitlines()) < 150
    assert shown[2][1] == {key for group in GROUPS.values() for key in group} | {"config_path"}
    letters = "".join(shown[2][0].split())  # lines break, at hyphens too
    assert all("".join(text.split()) in letters for section in read_comments(DEFAULT_CONFIG).values()
               for key, text in section.items() if key != "recipes")


def test_every_option_has_one_group_one_section_its_help_and_a_reader():
    values, _ = shipped()
    sections = read_comments(DEFAULT_CONFIG)
    listed = [key for section in sections.values() for key in section]
    assert listed == [*values, "recipes"] and all(text for title in sections for text in sections[title].values())
    assert sorted(key for group in GROUPS.values() for key in group) == sorted(values)
    modules = set((DEFAULT_CONFIG.parent / "src").rglob("*.py"))
    source = "".join(p.read_text() for p in modules if p.name not in ("config.py", "options.py"))
    assert [key for key in values if not re.search(rf"\bconfig\.{key}\b", source)] == ["recipe"]  # config.py reads it
    assert set(values) == set().union(*map(options_in, PROGRAMS))


def test_the_page_of_options_is_what_the_program_knows():
    assert (DEFAULT_CONFIG.parent / "docs" / "options.md").read_text() == options_table()


@pytest.mark.parametrize("old, new, right", [
    ("learning_rate: 0.001", "learning_rate: 1e-3", True), ("willingness_weight: null", "willingness_weight: 2", True),
    ("dataset: ml-1m", "dataset: [a]", False), ("recipes:", "recipe_s:", False), ("  num_neg", "  numneg", False),
    ("veto: False\n", "", False), ("veto: False\n", "veto: False\nanother: 1\n", False)])
def test_the_default_file_may_be_edited_but_not_broken(tmp_path, monkeypatch, old, new, right):
    path = tmp_path / "default_config.yaml"
    path.write_text(DEFAULT_CONFIG.read_text().replace(old, new))
    monkeypatch.setattr("src.config.DEFAULT_CONFIG", path)
    if right:
        config = load_config(["--willingness_weight", "none"])
        assert config.learning_rate == 0.001 and config.willingness_weight is None
    else:
        with refused("default_config.yaml"):
            load_config(["--recipe", "fast"])
