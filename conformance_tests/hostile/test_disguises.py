"""The polyglot of the catalogue is what it says: good weights that an unpickler carries out."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

from package_builders import llama_tensors
from rows_disguises import polyglot
from safetensors.numpy import load

from slmconform.package.folder import scan
from slmconform.package.formats import executable


def test_weights_can_be_a_pickle_at_once(tmp_path: Path) -> None:
    content = polyglot()
    (tmp_path / "model.safetensors").write_bytes(content)
    assert load(content).keys() > llama_tensors().keys()
    called: list[object] = []

    class Reader(pickle.Unpickler):
        """Notes what would be called."""

        def find_class(self, module: str, name: str) -> object:
            called.append((module, name))
            return called.append

    Reader(io.BytesIO(content)).load()
    assert called == [("os", "system"), "true"]
    found = executable(scan(tmp_path), "model.safetensors")
    assert found is not None
    assert found.evidence == "it imports os.system and calls it"
