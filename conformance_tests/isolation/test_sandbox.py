"""The sandbox from inside: what a confined process can and cannot do, and what is told of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from slmconform.isolation import landlock, sandbox
from slmconform.isolation.client import Job
from slmconform.isolation.confinement import LAYERS, Confinement
from slmconform.isolation.ending import Kind

MIB = 2**20
SRC = Path(sandbox.__file__).parents[2]


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir(mode=0o700)
    (folder / "weights").write_text("some bytes")
    return folder


@pytest.fixture
def confined(server, tmp_path, package):
    """Run a candidate in the sandbox; its ending and its records."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)

    def run(name, *, timeout=30.0, **fields):
        arguments = {"package": str(package), "scratch": str(scratch), "home": str(tmp_path)}
        given = {"memory": 1024 * MIB, "file_size": MIB, "seconds": timeout} | fields
        confinement = Confinement(read=[str(package)], scratch=str(scratch), **given)
        records = []
        job = Job(f"confined_candidates:{name}", arguments, confinement)
        ending = server.run(job, timeout=timeout, on_record=records.append)
        return ending, records

    return run


@pytest.fixture
def whole(confined):
    """Skip where the system has not every layer: what is missing is told, and tested elsewhere."""
    ending, _ = confined("nothing")
    if ending.missing:
        pytest.skip(f"without {ending.missing}")


def test_every_layer_is_active_or_named(confined):
    ending, _ = confined("nothing")
    assert ending.kind is Kind.COMPLETE, ending
    assert sorted([*ending.layers, *ending.missing]) == sorted(LAYERS)
    assert all(ending.missing.values())


@pytest.mark.usefixtures("whole")
def test_only_package_libraries_and_scratch_can_be_opened(confined, tmp_path):
    (tmp_path / "secret").write_text("secret")
    _, (seen,) = confined("files")
    assert seen["package"] == "some bytes"
    assert seen["scratch"] == "written"
    assert seen["library"]
    refused = {"secret", "passwd", "list home", "write package", "write home", "make", "remove"}
    refused |= {"memory of the parent", "run"}
    assert {name for name, what in seen.items() if what == "EACCES"} == refused
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "scratch", "secret"]
    assert [path.name for path in (tmp_path / "package").iterdir()] == ["weights"]


@pytest.mark.usefixtures("whole")
def test_there_is_no_network_and_no_way_back_to_privileges(confined):
    _, (seen,) = confined("powers")
    assert seen["connect"] in ("ENETUNREACH", "EACCES")
    assert seen["interfaces"] == ["lo"]
    assert seen["user"] != 0
    assert seen["become root"] == "EPERM"
    assert seen["signal to the parent"] == "EPERM"
    assert seen["status"]["NoNewPrivs"] == "1"
    # Reading what only its owner may is left, where root was given up; nothing else.
    assert int(seen["status"]["CapEff"], 16) in (0, 1 << 2)
    assert int(seen["status"]["CapInh"], 16) == 0


def test_limits_hold(confined):
    _, (seen,) = confined("limits", memory=600 * MIB)
    assert seen["core"] == 0
    assert seen["files"] <= sandbox.OPEN_FILES
    assert seen["large file"] in ("EFBIG", "killed")
    assert seen["allocation"] == "MemoryError"


def test_no_secret_of_the_caller_is_handed_on(monkeypatch):
    from slmconform.isolation.client import _environment

    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "MY_PASSWORD", "ANYTHING"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environment = _environment()
    assert "hidden" not in environment.values()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["PATH"] == os.environ["PATH"]


def test_what_libraries_keep_goes_to_the_scratch_folder(confined, tmp_path):
    _, (seen,) = confined("homes")
    assert set(seen.values()) == {str(tmp_path / "scratch")}


def test_a_cached_module_of_the_package_is_never_run(confined, package):
    """A stale or forged .pyc beside a source would run in its place."""
    import py_compile

    source = package / "module.py"
    source.write_text("value = 'forged'\n")
    py_compile.compile(str(source), doraise=True)
    status = source.stat()
    source.write_text("value = 'source'\n")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    _, (seen,) = confined("imports")
    assert seen["value"] == "source"


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(("cuda", "own"), [(True, 6), (False, "EACCES")])
def test_only_with_cuda_a_process_may_name_its_threads(confined, cuda, own):
    """CUDA does so before anything else, and takes a refusal for a broken system (error 304)."""
    _, (seen,) = confined("names_of_threads", cuda=cuda)
    assert seen["own"] == own
    assert seen["of a process forked later"] == str(own)
    assert seen["of the parent"] in ("EACCES", "EINVAL")  # by Landlock or root, or by the kernel


def test_a_job_that_requires_a_layer_that_is_missing_does_not_begin(confined, monkeypatch):
    ending, records = confined("nothing", cuda=True, required=True)  # memory is then unlimited
    assert ending.kind is Kind.REFUSED
    assert "without memory (unmeasured with CUDA" in ending.detail
    assert records == []


def test_without_landlock_its_layers_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(landlock, "version", lambda: 0)
    fields = {"memory": MIB, "file_size": MIB, "seconds": 1.0}
    rules = sandbox._Rules(Confinement(read=[], scratch=str(tmp_path), **fields))
    assert "has no Landlock" in rules.enter()
    assert "has no Landlock" in rules.reason_for_signals()


def test_an_older_landlock_lacks_the_signals_alone(monkeypatch, tmp_path):
    if not landlock.version():
        pytest.skip("no Landlock here")
    monkeypatch.setattr(landlock, "version", lambda: 3)
    fields = {"memory": MIB, "file_size": MIB, "seconds": 1.0}
    rules = sandbox._Rules(Confinement(read=[], scratch=str(tmp_path), **fields))
    assert "version 6 of Landlock is needed, this kernel has 3" in rules.reason_for_signals()
    os.close(rules._made)


# -- as other users see it --

REACHABLE = "import os, sys, slmconform, torch; sys.exit(not os.access(sys.executable, os.X_OK))"
CHECK = "from slmconform.cli import main; raise SystemExit(main())"


def as_user(*command, check):
    """Run a check by another user, or in another state, through the command line."""
    environment = {
        "PATH": os.environ["PATH"],
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(SRC), *(p for p in sys.path if "site-packages" in p)]),
    }
    return subprocess.run(
        [*command, *check],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        timeout=120,
    )


@pytest.fixture(scope="module")
def readable():
    """A package that every user may read, with code of its own; pytest's folders are for one."""
    from own_code import own_code

    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        yield own_code(Path(top) / "model")


def checking(python, folder, *options):
    verb = ["check", str(folder), "--trust-code", "--profile", "runnable", "--device", "cpu"]
    return [python, "-P", "-c", CHECK, *verb, *options]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="who is no root is an ordinary user anyway")
def test_an_ordinary_user_has_the_same_layers(readable):
    user = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if as_user(*user, check=[python, "-c", REACHABLE]).returncode == 0:
            break
    else:
        pytest.skip("no interpreter with these libraries can be read by another user")
    check = checking(python, readable, "--format", "json", "--require-sandbox")
    done = as_user(*user, check=check)
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["setting"]["isolation"] == ["process", *LAYERS], done.stderr
    assert report["setting"]["unconfined"] == {}


POWERLESS = (
    "echo 0 > /proc/sys/user/max_user_namespaces && "
    'exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$@"'
)


@pytest.mark.slow
def test_a_system_that_refuses_layers_is_told_in_the_open(readable):
    """As in a container whose root may do nothing: no namespaces, no other user."""
    maker = shutil.which("unshare")
    if not maker or subprocess.run([maker, "-Ur", "true"], check=False).returncode:
        pytest.skip("no user namespaces here to make such a system in")
    inside = ["unshare", "-Ur", "sh", "-c", POWERLESS, "sh"]
    done = as_user(*inside, check=checking(sys.executable, readable))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "sandbox incomplete, without network (unshare: No space left on device)" in done.stdout
    assert "cannot become user 65534" in " ".join(done.stdout.split())
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "slmconform" not in line)

    done = as_user(*inside, check=checking(sys.executable, readable, "--require-sandbox"))
    assert done.returncode == 2
    assert "the sandbox is incomplete here, without network" in done.stderr
    assert done.stdout == ""
