"""An admission webhook that a test serves itself, and refusals by a ValidatingAdmissionPolicy."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from devcluster.certificates import write_keys
from devcluster.components import KeyFiles
from tests.integration.testbed import ApiError, Testbed, now

Body = dict[str, Any]
Answer = Callable[[Body], Body]
"""Gets an AdmissionRequest, returns the response less its uid."""
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


def patched(*operations: Body) -> Body:
    """Allow a request, changed by a JSON patch."""
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


@contextmanager
def webhook(bed: Testbed, folder: Path, resources: list[str], answer: Answer) -> Iterator[None]:
    """Have an admission webhook asked about what is made or changed in the bed's namespace; wait until it is."""
    is_asked = threading.Event()

    def answered(request: Body) -> Body:
        if request["kind"]["kind"] != "ConfigMap":
            return answer(request)
        is_asked.set()
        return {"allowed": True}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            response = {"uid": review["request"]["uid"], **answered(review["request"])}
            told = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
            text = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
            """Say nothing."""

    keys = KeyFiles(folder / "webhook")
    write_keys(keys, authority_name="webhook", server_addresses=["127.0.0.1"], now=now())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys.server, keys.server_key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = f"{bed.namespace}.tests"
    hook = {
        "name": f"{bed.namespace}.tests.crontabber.dev",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {
            "url": f"https://127.0.0.1:{server.server_port}/",
            "caBundle": base64.b64encode(keys.authority.read_bytes()).decode(),
        },
        "namespaceSelector": _only(bed),
        "rules": [
            {
                "apiGroups": ["*"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": [*resources, "configmaps"],
            }
        ],
    }
    with _registered(bed, "mutatingwebhookconfigurations", {"metadata": {"name": name}, "webhooks": [hook]}):
        try:
            bed.wait(lambda: _is_asked(bed, is_asked), "the webhook is asked")
            yield
        finally:
            server.shutdown()
            server.server_close()


@contextmanager
def policy(bed: Testbed, resources: list[str], expression: str, message: str) -> Iterator[None]:
    """Have requests in the bed's namespace refused for which a CEL expression does not hold; wait until they are."""
    name = f"{bed.namespace}.tests"
    rules = [
        {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": resources}
    ]
    probe = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    made = {
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [*rules, probe]},
            "validations": [
                {"expression": f"object.kind != 'ConfigMap' && ({expression})", "message": message}
            ],
        },
    }
    binding = {
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": _only(bed)},
        },
    }
    with (
        _registered(bed, "validatingadmissionpolicies", made),
        _registered(bed, "validatingadmissionpolicybindings", binding),
    ):
        bed.wait(lambda: _is_refused(bed), "the policy is in force")
        yield


def _is_refused(bed: Testbed) -> bool:
    with suppress(ApiError):
        bed.create("configmaps", {"metadata": {"generateName": "probe-"}})
        return False
    return True


def _is_asked(bed: Testbed, asked: threading.Event) -> bool:
    bed.create("configmaps", {"metadata": {"generateName": "probe-"}})
    return asked.is_set()


def _only(bed: Testbed) -> Body:
    return {"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}}


@contextmanager
def _registered(bed: Testbed, plural: str, body: Body) -> Iterator[None]:
    bed.api.request("POST", f"{REGISTRATION}/{plural}", body)
    try:
        yield
    finally:
        bed.api.request("DELETE", f"{REGISTRATION}/{plural}/{body['metadata']['name']}")
