"""What a stranger can get wrong: one clear message, the documented status, nothing half-written."""

from __future__ import annotations

import json
import os
import stat

import pytest
from cli_runs import here, process, shell, tree
from own_code import own_code
from package_builders import llama_tensors, make_package, raw_safetensors
from safetensors.numpy import save

# Says everything about the files, runs no model.
STATIC = ("--profile", "packaged", "--quiet")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A sound package, to be read only."""
    return make_package(tmp_path_factory.mktemp("sound") / "tiny")


def refused(said, *words, status=2):
    """The run ended with one sentence on standard error and nothing on standard output."""
    assert said.status == status, said
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert "Traceback" not in said.err
    assert sum("slmconform" in line and "usage:" not in line for line in lines) == 1, said.err
    for word in words:
        assert word in lines[-1], said.err


def failed(said, requirement, *words):
    """The report blames one requirement, in these words."""
    assert said.status == 1, said
    assert "Traceback" not in said.all
    assert f"FAIL  {requirement}" in said.out, said.out
    assert said.out.count("FAIL ") == 1, said.out
    flat = " ".join(said.out.split())
    for word in words:
        assert word in flat, said.out


# -- a path that is no package --


@pytest.mark.parametrize("verb", ["check", "init", "record", "upgrade"])
def test_a_missing_folder(verb, tmp_path):
    refused(here(verb, tmp_path / "nowhere"), "nowhere: no such directory")


@pytest.mark.parametrize("verb", ["check", "init", "record", "upgrade"])
def test_a_file_instead_of_a_folder(verb, tmp_path):
    (tmp_path / "model.safetensors").touch()
    refused(here(verb, tmp_path / "model.safetensors"), "a file, not a directory")


@pytest.mark.parametrize("verb", ["check", "init", "record", "upgrade"])
def test_an_empty_folder(verb, tmp_path):
    refused(here(verb, tmp_path), "an empty directory")
    assert tree(tmp_path) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    folder = make_package(tmp_path / "locked")
    folder.chmod(0)
    try:
        refused(here("check", folder), "ermission denied")
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_real_process_ends_with_the_status_that_main_returns(tmp_path):
    refused(process("check", tmp_path / "nowhere"), "no such directory")


# -- a broken manifest --


def manifest(folder, text):
    return make_package(folder / "tiny", manifest=text)


def test_a_manifest_that_is_no_toml(tmp_path):
    folder = manifest(tmp_path, 'spec = "1.0"\nprofile = = "packaged"\n')
    failed(here("check", folder, *STATIC), "SLM-MAN-001", "slm.toml:2", "not TOML")


def test_an_unknown_key_with_a_suggestion(tmp_path):
    folder = make_package(tmp_path / "tiny", replace={'version = "1.0.0"': 'versoin = "1.0.0"'})
    failed(here("check", folder, *STATIC), "SLM-MAN-001", "versoin", "did you mean version?")


def test_a_spec_version_that_never_was(tmp_path):
    folder = make_package(tmp_path / "tiny", replace={'spec = "1.0"': 'spec = "0.3"'})
    failed(here("check", folder, *STATIC), "SLM-MAN-002", "0.3", 'spec = "1.0"')


def test_a_newer_spec_version_is_never_silently_accepted(tmp_path):
    folder = make_package(tmp_path / "tiny", replace={'spec = "1.0"': 'spec = "7.3"'})
    said = here("check", folder, *STATIC)
    assert said.status == 3
    assert "7.3" in said.out
    assert "upgrade slmconform" in " ".join(said.out.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00\x01\x02",
        "[" * 5000,
        "x = " + "[" * 5000,
        "spec = " + "9" * 5000,
        'spec = "1.0"\nprofile = 1e999999\n',
        'spec = "1.0"\nprofile = "packaged"\nmodel = 3\n',
    ],
    ids=["empty", "control", "brackets", "nested", "digits", "huge", "no-table"],
)
def test_a_manifest_of_rubbish_is_one_finding(text, tmp_path):
    said = here("check", manifest(tmp_path, text), *STATIC)
    assert said.status == 1
    assert "Traceback" not in said.all
    assert said.out.count("FAIL ") == 1
    assert "FAIL  SLM-MAN-00" in said.out


@pytest.mark.parametrize("verb", ["record", "upgrade"])
def test_verbs_that_need_a_manifest_say_so(verb, tmp_path):
    refused(here(verb, make_package(tmp_path / "tiny", manifest=None)), "slm.toml")
    refused(here(verb, manifest(tmp_path / "b", "rubbish")), "slm.toml")


# -- broken files --


def test_a_truncated_safetensors_file(tmp_path):
    whole = save(llama_tensors(), {"format": "pt"})
    folder = make_package(tmp_path / "tiny", files={"model.safetensors": whole[:-100]})
    failed(here("check", folder, *STATIC), "SLM-WGT-001", "model.safetensors")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\xff" * 64, raw_safetensors("[]"), raw_safetensors({"a": 1})],
    ids=["empty", "short", "huge-length", "list", "no-entry"],
)
def test_weights_of_rubbish_are_one_finding(content, tmp_path):
    folder = make_package(tmp_path / "tiny", files={"model.safetensors": content})
    failed(here("check", folder, *STATIC), "SLM-WGT-001", "model.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2]",
        "null",
        '"text"',
        "",
        "{",
        "[" * 100_000,
        '{"vocab_size": ' + "9" * 5000 + "}",
        '{"vocab_size": 1e999}',
        '{"vocab_size": NaN}',
        b"\xff\xfe{}",
    ],
    ids=["list", "null", "text", "empty", "open", "deep", "digits", "huge", "nan", "utf-16"],
)
def test_a_configuration_of_rubbish_is_one_finding(content, tmp_path):
    folder = make_package(tmp_path / "tiny", files={"config.json": content})
    said = here("check", folder, *STATIC)
    assert said.status == 1, said
    assert "Traceback" not in said.all
    assert said.out.count("FAIL ") == 1, said.out
    assert "config.json" in said.out


def test_evidence_of_rubbish_is_one_finding(tmp_path):
    folder = make_package(tmp_path / "tiny", files={"conformance/evidence.json": "[]"})
    failed(here("check", folder, *STATIC), "SLM-MAN-005", "evidence.json")


# -- wrong options --


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "bogus"], ["'bogus'", "packaged, runnable, reproducible"]),
        (["--only", "SLM-WGT-01"], ["'SLM-WGT-01'", "did you mean SLM-WGT-001?"]),
        (["--only", "nonsense"], ["'nonsense'", "slmconform list"]),
        (["--only", ""], ["''"]),
        (["--skip", "SLM-XYZ"], ["'SLM-XYZ'"]),
        (["--timeout", "soon"], ["'soon' is not a positive number of seconds"]),
        (["--timeout", "0"], ["'0' is not a positive number"]),
        (["--timeout", "-3"], ["'-3' is not a positive number"]),
        (["--timeout", "nan"], ["'nan' is not a positive number"]),
        (["--timeout", "1e400"], ["'1e400' is not a positive number"]),
        (["--dtype", "int8"], ["invalid choice: 'int8'", "bfloat16"]),
        (["--format", "xml"], ["invalid choice: 'xml'"]),
        (["--bogus"], ["unrecognized arguments: --bogus"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_wrong_option_is_one_sentence(options, words, package):
    refused(here("check", package, *options), *words)


@pytest.mark.parametrize("device", ["bogus", "cuda:99", "cpu:x", "meta", ""])
def test_a_wrong_device_is_one_sentence_and_leaves_the_server_alive(device, package):
    refused(here("check", package, "--quiet", "--only", "IFC-002", "--device", device))


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["check"], ["explain"], ["schema", "x"]])
def test_a_wrong_verb_is_one_sentence(arguments):
    refused(here(*arguments))


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201])
def test_init_refuses_a_name_that_no_manifest_may_hold(name, tmp_path):
    folder = make_package(tmp_path / "a\nb", manifest=None)
    refused(here("init", folder, "--name", name), "--name")
    assert not (folder / "slm.toml").exists()


@pytest.mark.parametrize("licence", ["MIT AND", "()", "MIT/Apache-2.0", "no such licence"])
def test_init_refuses_a_licence_that_is_no_expression(licence, tmp_path):
    folder = make_package(tmp_path / "tiny", manifest=None)
    refused(here("init", folder, "--license", licence), "--license")
    assert not (folder / "slm.toml").exists()


# -- where the report is to go --


def test_output_into_a_missing_directory_is_refused_before_any_work(package, tmp_path):
    said = here("check", package, "--output", tmp_path / "no" / "report.txt")
    refused(said, "there is no directory")
    assert tree(tmp_path) == {}


def test_output_onto_a_directory(package, tmp_path):
    refused(here("check", package, "--output", tmp_path), "is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_output_where_nothing_may_be_written(package, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    refused(here("check", package, "--output", tmp_path / "report.txt"), "permission denied")


def test_output_into_a_device_leaves_the_device(package, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said = shell(f"$S check {package} {' '.join(STATIC)} --output {pipe} & cat {pipe}; wait")
    assert "verdict: " in said.out
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_output_through_a_link_replaces_its_target(package, tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "report.json"
    link.symlink_to(tmp_path / "real" / "r.json")
    (tmp_path / "real" / "r.json").write_text("old")
    assert here("check", package, *STATIC, "--format", "json", "--output", link).out == ""
    assert link.is_symlink()
    assert json.loads((tmp_path / "real" / "r.json").read_text())["profile"] == "packaged"


def test_a_full_disk_is_one_sentence(package):
    said = shell(f"$S check {package} {' '.join(STATIC)} > /dev/full")
    refused(said, "No space left on device")


def test_record_onto_a_file_called_conformance(tmp_path):
    folder = make_package(tmp_path / "tiny", files={"conformance": "mine"})
    refused(here("record", folder), "is a file")
    assert (folder / "conformance").read_text() == "mine"


# -- streams that are not as usual --


@pytest.mark.parametrize("redirection", ["", "2>&1"])
def test_a_reader_that_leaves_early_is_no_error(redirection, package):
    said = shell(f"$S check {package} --profile packaged --verbose {redirection} | head -n 1")
    assert said.status == 3  # of the check: nothing is recorded
    assert len(said.out.splitlines()) == 1
    assert "Traceback" not in said.all
    assert "BrokenPipe" not in said.all


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(streams, package):
    said = shell(f"$S check {package} {' '.join(STATIC)} {streams}")
    assert said.status == 3
    assert ("verdict: " in said.out) == (">&-" not in streams.replace("2>&-", ""))
    assert said.err == ""


def test_closed_streams_do_not_reach_the_process_of_the_model(tmp_path):
    folder = own_code(tmp_path / "own")
    said = shell(f"$S check {folder} --trust-code --only IFC-002 <&- >&- 2>&-")
    assert said.status == 3, said
    assert said.all == ""


def test_an_encoding_without_the_characters_is_no_error(tmp_path):
    folder = make_package(tmp_path / "tiny", replace={'"tiny-llama"': '"λ-моделька"'})
    said = shell(f"PYTHONIOENCODING=ascii $S check {folder} --profile packaged 2> /dev/null")
    assert said.status == 3
    assert "\\u03bb-\\u043c" in said.out
    said = shell(f"PYTHONIOENCODING=ascii $S check {folder} {' '.join(STATIC)} --format json")
    assert json.loads(said.out)["subject"]["name"] == "λ-моделька"


# -- names that are not as usual --

NAMES = {
    "blanks": "my model  here",
    "quotes": 'it\'s "quoted" $HOME `id`',
    "newline": "a\nb\n::error::pwned",
    "escape": "a\x1b[31mred\x1b]0;title\x07",
    "markup": "[/] [bold] [/red]",
    "direction": "a\u202etxt.exe",
    "leading-dash": "-rf",
    "percent": "100% %s {0}",
}


def harmless(said):
    for line in said.all.split("\n"):
        assert not line.lstrip().startswith("::"), line
        assert line.isprintable(), ascii(line)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_folder_of_any_name_is_checked_and_named_harmlessly(name, tmp_path):
    folder = make_package(tmp_path / name, files={"config.json": "[]"})
    said = here("check", folder, "--profile", "packaged")
    assert said.status == 1
    assert "Traceback" not in said.all
    harmless(said)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_command_that_repeats_a_requirement_can_be_pasted(name, tmp_path):
    folder = make_package(tmp_path / name, files={"config.json": "[]"})
    said = here("check", folder, *STATIC)
    again = next(line for line in said.out.splitlines() if line.startswith("      again  "))
    pasted = shell("$S" + again.removeprefix("      again  slmconform"))
    assert pasted.status == 1, pasted
    assert "FAIL  SLM-" in pasted.out


def test_a_name_that_is_not_utf_8(tmp_path):
    folder = os.fsencode(make_package(tmp_path / "tiny", files={"config.json": "[]"}))
    odd = folder + b"-\xff\xfe"
    os.rename(folder, odd)  # noqa: PTH104
    said = process("check", odd, *STATIC)
    assert said.status == 1
    assert "again  slmconform check $'" in said.out
    assert "-\\xff\\xfe'" in said.out
    assert json.loads(process("check", odd, *STATIC, "--format", "json").out)["exit_status"] == 1
    refused(process("init", odd, "--force"), "--name")


def test_files_of_any_name_are_reported_harmlessly(tmp_path):
    files = {f"{name}.pkl": b"\x80\x04." for name in NAMES.values()}
    folder = make_package(tmp_path / "tiny", files=files)
    (folder / os.fsdecode(b"\xff.pkl")).write_bytes(b"\x80\x04.")
    for form in (["--verbose"], ["--quiet"], ["--format", "json"]):
        said = here("check", folder, "--profile", "packaged", *form)
        assert said.status == 1
        assert "Traceback" not in said.all
        harmless(said)


def test_a_manifest_of_any_words_is_reported_harmlessly(tmp_path):
    words = {'"tiny-llama"': '"x\u202e ::error::y ##[error]z \U000e0041"', '"MIT"': '"\u202eMIT"'}
    folder = make_package(tmp_path / "tiny", replace=words)
    said = here("check", folder, "--profile", "packaged")
    assert said.status == 1
    harmless(said)
    assert "##[" not in said.all
