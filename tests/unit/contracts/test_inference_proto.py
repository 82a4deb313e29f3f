"""Our description of the Open Inference Protocol has the names, numbers and types that its clients were built with."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

# Each description registers the same names, so that one process can hold only one of them.
_READ = """
import json
from {module} import DESCRIPTOR

def fields(message):
    return {{
        f.name: (
            f.number,
            f.type,
            f.is_repeated,
            f.message_type and f.message_type.full_name,
            f.containing_oneof and f.containing_oneof.name,
        )
        for f in message.fields
    }}

def walk(messages):
    for message in messages:
        yield message.full_name, fields(message)
        yield from walk(message.nested_types)

(service,) = DESCRIPTOR.services_by_name.values()
methods = {{m.name: (m.input_type.full_name, m.output_type.full_name) for m in service.methods}}
found = {{"package": DESCRIPTOR.package, "service": service.full_name, "methods": methods}}
print(json.dumps(found | {{"messages": dict(walk(DESCRIPTOR.message_types_by_name.values()))}}))
"""


def described(module: str) -> dict[str, Any]:
    command = [sys.executable, "-c", _READ.format(module=module)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return found


def test_what_is_served_is_what_tritonclient_speaks() -> None:
    ours = described("flywheel.contracts.proto.inference_pb2")
    theirs = described("tritonclient.grpc.service_pb2")
    assert (ours["package"], ours["service"]) == (theirs["package"], theirs["service"])
    assert len(ours["methods"]) == 7
    assert ours["methods"].items() <= theirs["methods"].items()
    for name, fields in ours["messages"].items():
        assert fields == theirs["messages"][name], name
