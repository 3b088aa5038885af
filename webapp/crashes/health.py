"""Answers /healthz: can this process read the app's tables? It must not depend on the Host header."""

from collections.abc import Callable

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from crashes.models import CrashReport

HEALTH_PATH = "/healthz"


class HealthMiddleware:
    """200 `ok` when the tables can be read, else 503 and the kind of error: its text may name hosts."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path != HEALTH_PATH:
            return self.get_response(request)
        try:
            CrashReport.objects.exists()
        except DatabaseError as error:
            return HttpResponse(f"database: {type(error).__name__}\n", status=503, content_type="text/plain")
        return HttpResponse("ok\n", content_type="text/plain")
