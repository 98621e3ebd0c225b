"""Every verb as its documentation says, on the command line and in Python."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib

import pytest
from cli_runs import here, process, shell, tree
from own_code import own_code
from package_builders import MANIFEST, make_package, write_evidence

import slmconform
from slmconform import __version__
from slmconform.arguments import EPILOG
from slmconform.recording.record import RecordingRefused
from slmconform.standard.catalogue import catalogue
from slmconform.standard.report import Report

VERBS = ("check", "init", "record", "train", "explain", "list", "schema", "upgrade")
PACKAGED = ("--profile", "packaged")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A sound package without evidence, to be read only."""
    return make_package(tmp_path_factory.mktemp("sound") / "tiny")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A package of own code with its evidence, written by the verb itself."""
    folder = own_code(tmp_path_factory.mktemp("recorded") / "own")
    said = here("record", folder, "--trust-code")
    assert said.status == 0, said
    assert said.out.startswith(f"recorded {folder}/conformance/evidence.json (")
    assert f"slmconform check {folder}" in said.out
    return folder


def lines(said):
    return said.out.splitlines()


# -- help and version --


def test_version_is_the_packages():
    assert here("--version").out == f"slmconform {__version__}\n"


def test_help_names_every_verb_and_every_exit_status():
    said = here("--help")
    assert said.status == 0
    assert EPILOG.strip() in said.out
    for verb in VERBS:
        assert re.search(rf"^ +{verb} ", said.out, re.MULTILINE)
    for status in (0, 1, 2, 3, 130):
        assert re.search(rf"^  {status} +\w", EPILOG, re.MULTILINE)
    assert EPILOG.strip() in here("check", "--help").out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_fits_a_terminal(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = here(verb, "--help")
    assert said.status == 0
    assert all(len(line) <= 80 for line in lines(said))


# -- check --


def test_check_says_what_is_open_and_what_to_do(package):
    said = here("check", package, *PACKAGED)
    assert said.status == 3
    assert "4 no record" in said.out
    assert lines(said)[-1] == f"next: slmconform record {package}"
    assert said.err.startswith("checking Package\n")


def test_check_of_a_bare_folder_is_provisional(tmp_path):
    folder = make_package(tmp_path / "tiny", manifest=None)
    said = here("check", folder, *PACKAGED)
    assert said.status == 0
    assert "provisional verdict: nothing that could be asked failed" in said.out
    assert f"next: slmconform init {folder}" in said.out
    strict = here("check", folder, *PACKAGED, "--strict")
    assert strict.status == 1
    assert "not conformant: --strict" in strict.out
    assert "exit status 1" in strict.out


def test_check_of_a_whole_package_is_conformant(recorded):
    said = here("check", recorded, "--trust-code", "--timings")
    assert said.status == 0
    assert "verdict: conformant\n" in said.out
    assert "next:" not in said.out
    assert "provisional" not in said.out
    assert re.search(r"^forward\.repeated +1 +\d", said.out, re.MULTILINE)
    assert re.search(r"^\d+ measurements +[1-9]", said.out, re.MULTILINE)
    assert re.search(r"^peak memory .* [\d,]+ MiB$", said.out, re.MULTILINE)
    assert "ran own code: modeling.py" in said.out


def test_check_tells_a_failure_with_all_that_helps(tmp_path):
    folder = make_package(tmp_path / "tiny", replace={'license = "MIT"': 'license = "Apache-2.0"'})
    said = here("check", folder, *PACKAGED)
    assert said.status == 1
    assert "verdict: not conformant" in said.out
    block = said.out.partition("FAIL  ")[2].partition("\n\n")[0]
    assert re.match(r"SLM-LIC-00\d  .* MUST, packaged\n", block)
    for label in ("got", "want", "where", "fix", "again"):
        assert re.search(rf"^      {label:<6} \S", block, re.MULTILINE), block


def test_check_without_trust_runs_no_own_code(tmp_path):
    trap = tmp_path / "ran"
    folder = own_code(tmp_path / "own", build=f"open({str(trap)!r}, 'w')")
    said = here("check", folder)
    assert said.status == 3
    assert "--trust-code" in said.out
    assert not trap.exists()


@pytest.mark.parametrize("form", [[], ["--verbose"], ["--timings"], ["--quiet"]])
def test_text_fits_80_columns(form, package):
    said = here("check", package, *PACKAGED, *form)
    for line in lines(said):
        assert len(line) <= 80 or line.startswith(("next: ", "      again ")), line
    assert not said.out.startswith("\n")
    assert not said.out.endswith("\n\n")
    assert "\x1b" not in said.out


def test_quiet_is_only_what_is_wrong(tmp_path):
    folder = make_package(tmp_path / "tiny")
    write_evidence(folder)
    said = here("check", folder, *PACKAGED, "--quiet", "--skip", "TOK-001")
    assert said.err == ""
    assert "PKG  Package" not in said.out


def test_verbose_lists_every_requirement_once(package):
    said = here("check", package, *PACKAGED, "--verbose")
    for one in catalogue().profiles["packaged"].ids:
        assert len(re.findall(rf"^\S.{{8}} {one}  ", said.out, re.MULTILINE)) == 1


def test_json_is_a_valid_report(package, tmp_path):
    said = here("check", package, *PACKAGED, "--format", "json")
    report = Report.model_validate_json(said.out)
    assert report.exit_status == said.status == 3
    assert said.out.isascii()
    (tmp_path / "report.json").write_text(said.out)
    assert here("schema", "report", "--validate", tmp_path / "report.json").status == 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_output_writes_what_would_be_printed(form, package, tmp_path):
    path = tmp_path / "report"
    path.write_text("old")
    said = here("check", package, *PACKAGED, "--format", form, "--output", path)
    assert (said.status, said.out) == (3, "")
    printed = here("check", package, *PACKAGED, "--format", form).out
    times = r'"seconds": [\d.e-]+'
    assert re.sub(times, "", path.read_text()) == re.sub(times, "", printed)
    assert list(tmp_path.iterdir()) == [path]


def test_only_asks_one_and_what_it_needs(package):
    said = here("check", package, "--only", "lic-001", "--quiet")
    assert said.status == 3
    assert "what was asked holds, and the rest was left out" in said.out


def test_check_from_another_place(package):
    expected = here("check", package, *PACKAGED).out
    for path, cwd in (("tiny", package.parent), (".", package), ("../tiny/", package)):
        said = process("check", path, *PACKAGED, cwd=cwd)
        assert said.status == 3
        assert said.out == expected


def test_check_from_another_place_runs_the_model(recorded, monkeypatch):
    monkeypatch.chdir(recorded)
    said = here("check", ".", "--trust-code", "--quiet")
    assert said.status == 0, said


def test_check_changes_nothing(package):
    before = tree(package)
    here("check", package, "--verbose", *PACKAGED)
    assert tree(package) == before


@pytest.mark.skipif(shutil.which("script") is None, reason="needs script(1) of util-linux")
def test_the_terminal_is_left_clean(package):
    line = f"script -qec '$S check {package} --profile packaged' /dev/null < /dev/null"
    said = shell(f"NO_COLOR=1 TERM=xterm {line}")
    assert said.status == 3
    # The cursor that was hidden is shown again, and the last thing drawn is wiped.
    assert said.out.count("\x1b[?25l") == said.out.count("\x1b[?25h")
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.out.rpartition("\x1b[2K")[2])
    assert seen.replace("\r", "").lstrip("\n").startswith("slmconform: tiny-llama")


# -- init --


def test_init_writes_a_manifest_that_a_check_accepts(tmp_path):
    folder = make_package(tmp_path / "tiny", manifest=None)
    said = here("init", folder, "--name", "My model", "--license", "MIT")
    assert said.status == 0, said
    assert lines(said) == [
        f"wrote {folder}/slm.toml",
        "next: read it, correct it, then",
        f"  slmconform record {folder}",
    ]
    manifest = tomllib.loads((folder / "slm.toml").read_text())
    assert manifest["model"]["name"] == "My model"
    assert manifest["model"]["task"] == "causal-lm"
    assert slmconform.load_manifest(folder).model.license == "MIT"
    assert here("check", folder, *PACKAGED, "--quiet").status == 3


def test_init_keeps_an_existing_manifest_unless_forced(tmp_path):
    folder = make_package(tmp_path / "tiny")
    before = tree(folder)
    said = here("init", folder)
    assert said.status == 2
    assert "--force" in said.err
    assert tree(folder) == before
    assert here("init", folder, "--force", "--quiet").status == 0
    assert (folder / "slm.toml").read_text() != MANIFEST


@pytest.mark.parametrize(
    ("licence", "said"),
    [("Apache-2.0", "the text of Apache-2.0"), ("LicenseRef-Mine", "add the text of"), (None, "")],
)
def test_init_ships_only_a_text_that_it_knows(licence, said, tmp_path):
    folder = make_package(tmp_path / "tiny", manifest=None)
    (folder / "LICENSE").unlink()
    given = ["--license", licence] if licence else []
    out = here("init", folder, *given).out
    assert (folder / "LICENSE").exists() == (licence == "Apache-2.0")
    assert (said or "no licence is declared") in out


def test_init_keeps_a_licence_text_that_is_there(tmp_path):
    folder = make_package(tmp_path / "tiny", manifest=None)
    before = (folder / "LICENSE").read_bytes()
    here("init", folder, "--license", "Apache-2.0")
    assert (folder / "LICENSE").read_bytes() == before


def test_init_of_what_is_no_model_writes_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    said = here("init", tmp_path)
    assert said.status == 2
    assert "Traceback" not in said.err
    assert tree(tmp_path) == {"notes.txt": b"no model"}


# -- record --


def test_record_twice_gives_the_same_evidence(recorded):
    before = tree(recorded)
    assert here("record", recorded, "--trust-code", "--quiet").status == 0
    assert tree(recorded) == before


def test_record_refuses_a_package_that_fails(tmp_path):
    folder = own_code(tmp_path / "own")
    (folder / "LICENSE").unlink()
    said = here("record", folder, "--trust-code", "--quiet")
    assert said.status == 1
    assert "FAIL  SLM-LIC-00" in said.out
    assert "nothing recorded: the package does not hold: SLM-LIC-00" in said.err
    assert not (folder / "conformance").exists()


def test_record_refuses_own_code_that_is_not_trusted(tmp_path):
    folder = own_code(tmp_path / "own")
    said = here("record", folder)
    assert said.status == 3
    assert said.err.startswith("slmconform: nothing recorded: modeling.py:build is the package's")
    assert not (folder / "conformance").exists()


def test_record_refuses_a_model_that_answers_differently_each_time(tmp_path):
    folder = own_code(tmp_path / "own", forward="x = x + torch.rand_like(x) * 0.01")
    said = here("record", folder, "--trust-code", "--quiet")
    assert said.status == 1
    assert "SLM-DET-001" in said.err
    assert not (folder / "conformance").exists()


# -- explain, list, schema, upgrade --


def test_explain_takes_every_id_in_short_too():
    for one in catalogue().requirements:
        said = here("explain", one)
        assert said.status == 0
        assert said.out.startswith(f"{one}  ")
        assert here("explain", one.removeprefix("SLM-").lower()) == said


def test_list_names_every_requirement_of_a_profile():
    known = catalogue()
    assert all(one in here("list").out for one in known.requirements)
    for name, profile in known.profiles.items():
        said = here("list", "--profile", name)
        assert set(re.findall(r"SLM-[A-Z]{3}-\d{3}", said.out)) == {*profile.ids}
    assert here("list", "--profile", "bogus").status == 2


@pytest.mark.parametrize("name", ["manifest", "evidence", "report"])
def test_schema_prints_json(name):
    assert json.loads(here("schema", name).out)["$id"].count(name) == 1


def test_schema_validates(package, recorded, tmp_path):
    good = here("schema", "manifest", "--validate", package / "slm.toml")
    assert (good.status, good.err) == (0, "")
    assert good.out.endswith("is a valid manifest\n")
    evidence = recorded / "conformance" / "evidence.json"
    assert here("schema", "evidence", "--validate", evidence).status == 0
    bad = tmp_path / "slm.toml"
    bad.write_text(MANIFEST.replace("version =", "versoin ="))
    said = here("schema", "manifest", "--validate", bad)
    assert said.status == 1
    assert "versoin" in said.out
    assert "'version' is a required property" in said.out


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "\x00"], ids=["empty", "open", "deep", "0"]
)
@pytest.mark.parametrize("name", ["f.json", "f.toml", "f"])
def test_schema_of_rubbish(text, name, tmp_path):
    (tmp_path / name).write_text(text)
    said = here("schema", "report", "--validate", tmp_path / name)
    assert said.status == 1
    assert len(lines(said)) >= 1
    assert "Traceback" not in said.all


def test_upgrade_says_that_there_is_nothing_to_do(package):
    said = here("upgrade", package)
    assert said.status == 0
    assert "nothing to upgrade" in said.out


# -- Python --


def test_python_does_the_same(recorded, package, tmp_path):
    report = slmconform.check(recorded, trust_code=True)
    assert (report.exit_status, type(report)) == (0, slmconform.Report)
    assert slmconform.load_manifest(package).model.name == "tiny-llama"
    folder = own_code(tmp_path / "own")
    assert slmconform.record(str(folder), trust_code=True).is_file()
    with pytest.raises(RecordingRefused):
        slmconform.record(own_code(tmp_path / "other"))
    with pytest.raises(AttributeError):
        slmconform.bogus  # noqa: B018


# -- what is imported --

HEAVY = {"torch", "transformers", "tokenizers", "rich", "jsonschema", "tomlkit"}
MODULES = """\
import sys
before = set(sys.modules)
from slmconform.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print("\\n" + " ".join({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""


def imported(*arguments):
    """The top-level names of what a run imports."""
    code = MODULES.format(arguments=[str(one) for one in arguments])
    said = shell(f'{sys.executable} -c "$CODE"', code=code)
    return set(said.out.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["check", "--help"]])
def test_version_and_help_import_nothing_that_costs(arguments):
    assert not imported(*arguments) & (HEAVY | {"pydantic", "packaging", "tomllib", "numpy"})


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["explain", "SLM-WGT-003"], ["schema", "report"], ["check", "{}", *PACKAGED]],
    ids=lambda words: words[0],
)
def test_nothing_static_imports_torch(arguments, package):
    names = imported(*(one.format(package) for one in arguments))
    assert "slmconform" in names
    assert not names & HEAVY


def test_importing_the_package_imports_nothing():
    code = "import sys, slmconform; print(*(n for n in sys.modules if 'torch' in n or 'pyd' in n))"
    said = shell(f'{sys.executable} -c "$CODE"', code=code)
    assert said.out == "\n"
