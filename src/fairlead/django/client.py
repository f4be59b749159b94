"""The browser client for a project's pages: ``fairlead.js``, as a view."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from starlette.datastructures import Headers

from fairlead import static


@require_safe  # type: ignore[untyped-decorator]  # Django has no types
def browser_client(request: HttpRequest) -> HttpResponse:
    """Serve ``fairlead.js``; goes into the URLconf, usually as ``path("fairlead.js", browser_client)``."""
    answer = static.browser_client(Headers(request.headers))
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return HttpResponse(answer.body, status=answer.status_code, headers=headers)
