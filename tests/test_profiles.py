"""An override reaches its notebook with the right type, or it is an error."""

from __future__ import annotations

import nbformat
import pytest

from r1lab.basics.errors import R1LabError
from r1lab.course import profiles

CELL = """seed: int = 0  # every random choice
out_dir: str = "runs/cpu"  # where results go
steps: int = 40  # RL steps
learning_rate: float = 3e-4  # of AdamW
lengths: list[int] = [
    32,
    64,
]  # tokens
resume: bool = True
limit: int | None = None"""


@pytest.fixture
def folder(tmp_path):
    """A folder with two lessons and no overrides."""
    for name in ("01_base_model", "05_r1_zero"):
        cell = nbformat.v4.new_code_cell(CELL, metadata={"tags": ["parameters"]})
        metadata = {
            "kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}
        }
        nb = nbformat.v4.new_notebook(cells=[cell], metadata=metadata)
        nbformat.write(nb, tmp_path / f"{name}.ipynb")
    (tmp_path / "profiles.yaml").write_text("profiles: {}\n")
    return tmp_path


def resolve(folder, text, profile="smoke", notebook="05_r1_zero"):
    (folder / "profiles.yaml").write_text(text)
    loaded = profiles.load(folder / "profiles.yaml")
    return profiles.resolve(profile, folder / f"{notebook}.ipynb", loaded)


def test_parameters_are_read_with_types_defaults_and_help(folder):
    found = profiles.parameters(folder / "05_r1_zero.ipynb")
    assert list(found) == [
        *("seed", "out_dir", "steps", "learning_rate", "lengths", "resume", "limit")
    ]
    assert found["learning_rate"] == profiles.Parameter("learning_rate", "float", 3e-4, "of AdamW")
    assert found["lengths"].default == [32, 64] and found["lengths"].help == "tokens"
    assert found["limit"].annotation == "int | None"


def test_overrides_reach_their_notebook_and_no_other(folder):
    text = "profiles: {smoke: {05_r1_zero: {steps: 2, learning_rate: 1e-3, lengths: [8]}}}"
    got = resolve(folder, text)
    assert got == {"steps": 2, "learning_rate": 1e-3, "lengths": [8]}
    assert resolve(folder, text, notebook="01_base_model") == {}
    assert resolve(folder, text, profile="cpu") == {}


def test_an_int_becomes_the_float_that_the_notebook_wants(folder):
    got = resolve(folder, "profiles: {smoke: {05_r1_zero: {learning_rate: 1}}}")
    assert isinstance(got["learning_rate"], float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{stesp: 2}", "no parameter 'stesp'; did you mean 'steps'?"),
        ("{steps: two}", "'steps' takes int, not 'two'"),
        ("{steps: 2.5}", "'steps' takes int"),
        ("{steps: true}", "'steps' takes int"),
        ("{resume: 1}", "'resume' takes bool"),
        ("{lengths: [8, x]}", "'lengths' takes list"),
        ("{limit: many}", "'limit' takes int | None"),
        ("[steps]", "must be a mapping"),
    ],
)
def test_a_wrong_override_is_one_clear_line(folder, values, message):
    with pytest.raises(R1LabError) as error:
        resolve(folder, f"profiles: {{smoke: {{05_r1_zero: {values}}}}}")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profiles: {smok: {}}", "did you mean 'smoke'?"),
        ("profile: {}", "the sections 'profiles' and 'skip'"),
        ("profiles: [", "is no YAML"),
        ("skip: {smoke: {05_r1_zero: }}", "needs a reason in words"),
    ],
)
def test_a_wrong_file_is_one_clear_line(folder, text, message):
    (folder / "profiles.yaml").write_text(text)
    with pytest.raises(R1LabError) as error:
        profiles.load(folder / "profiles.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("section", ["profiles: {gpu: {09_x: {n: 1}}}", "skip: {gpu: {09_x: why}}"])
def test_an_entry_for_a_notebook_that_is_not_there_is_an_error(folder, section):
    (folder / "profiles.yaml").write_text(section)
    with pytest.raises(R1LabError, match="no notebook '09_x'"):
        profiles.check_all(profiles.load(folder / "profiles.yaml"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("steps: int = 4\nhalf = steps // 2", "must be a literal value"),
        ("import os", "is not `name: type = value`"),
        ("steps: int", "is not `name: type = value`"),
        ("steps: int = = 4", "is no Python"),
    ],
)
def test_a_parameters_cell_holds_literals_only(source, message):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    with pytest.raises(R1LabError, match=message):
        profiles.parameters(nbformat.v4.new_notebook(cells=[cell]))


def test_a_notebook_without_parameters_cell_is_refused():
    with pytest.raises(R1LabError, match="one cell tagged 'parameters' and has 0"):
        profiles.parameters(nbformat.v4.new_notebook())


def test_the_command_line_reads_text_as_the_parameter_type(folder):
    offered = profiles.parameters(folder / "05_r1_zero.ipynb")
    read = lambda name, text: profiles.parse_text(offered[name], text, "-p")  # noqa: E731
    assert read("steps", "10") == 10
    assert read("learning_rate", "1e-3") == 1e-3
    assert read("resume", "false") is False
    assert read("limit", "none") is None
    assert read("out_dir", "7") == "7"
    with pytest.raises(R1LabError, match="takes int"):
        read("steps", "ten")


def test_lessons_are_chosen_by_number_or_name(folder):
    pick = lambda *only: [p.stem for p in profiles.select(list(only), folder)]  # noqa: E731
    assert pick("05") == pick("5") == pick("05_r1_zero") == ["05_r1_zero"]
    assert pick("05", "01") == ["01_base_model", "05_r1_zero"]
    with pytest.raises(R1LabError, match="did you mean '05_r1_zero'"):
        pick("05_r1_zer")


def test_the_environment_names_the_default_profile(monkeypatch):
    monkeypatch.delenv("R1LAB_PROFILE", raising=False)
    assert profiles.default_profile() == "cpu"
    monkeypatch.setenv("R1LAB_PROFILE", "gpu")
    assert profiles.default_profile() == "gpu"
    monkeypatch.setenv("R1LAB_PROFILE", "gup")
    with pytest.raises(R1LabError, match="did you mean 'gpu'"):
        profiles.default_profile()


def test_every_entry_of_the_project_reaches_its_notebook():
    """All notebooks x profiles of this repository."""
    loaded = profiles.load()
    profiles.check_all(loaded)
    for path in profiles.notebooks():
        offered = profiles.parameters(path)
        for parameter in offered.values():
            profiles.check_value(parameter, parameter.default, path.name)
        assert offered["seed"].annotation == "int" and offered["out_dir"].annotation == "str"


def test_papermill_sees_the_same_parameters():
    """Papermill reads the cell by regular expression: one line each, or it misses the help."""
    import papermill

    for path in profiles.notebooks():
        assert set(papermill.inspect_notebook(str(path))) == set(profiles.parameters(path)), path
