"""`POST /mcp` (one project: rk, sk) and `POST /mcp/account` (every project: ak)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rotator.domain.keys import PUBLISHED_TOOLS, Kind
from rotator.sandbox import tools
from rotator.sandbox.events import Project, parse_event
from rotator.sandbox.exchange import Call, Denied, Reply, render_json
from rotator.sandbox.keyring import MintedKey
from rotator.sandbox.rpc import PROTOCOL_VERSIONS, RpcError, answer_body
from rotator.sandbox.service import Service

_INSTRUCTIONS = "A sandbox that stands in for Millimetric. Its events are made up."


def answer_project(service: Service, call: Call) -> Reply:
    """Raises `Denied` 403 key_kind_not_allowed for pk and ak."""
    key = service.verify(call)
    if key.key_id.kind not in (Kind.RK, Kind.SK):
        raise Denied(403, "key_kind_not_allowed")
    return _Conversation(service, key, account=False).answer(call)


def answer_account(service: Service, call: Call) -> Reply:
    """Raises `Denied` 403 account_key_required for any kind but ak."""
    key = service.verify(call)
    if key.key_id.kind is not Kind.AK:
        raise Denied(403, "account_key_required")
    return _Conversation(service, key, account=True).answer(call)


class _Conversation:
    """One POST's messages, all under one key."""

    def __init__(self, service: Service, key: MintedKey, *, account: bool) -> None:
        self._service = service
        self._key = key
        self._account = account
        self._kind = key.key_id.kind

    def answer(self, call: Call) -> Reply:
        """Every message of the body, in order."""
        return answer_body(call.body, call.headers.get(b"mcp-protocol-version"), self._method)

    def _method(self, name: str, params: dict[str, Any]) -> bytes:
        self._service.methods[name if name in _METHODS else "unknown"] += 1
        plan_of, needed = (None, "business") if self._account else (self._key.project, "pro")
        if not self._service.settings.plan_reaches(plan_of, needed):
            raise RpcError("plan_limit", {"required": needed})
        if name == "tools/list":
            return tools.TOOL_LISTS[self._kind]
        if name == "tools/call":
            return self._call_tool(params)
        if name == "resources/read":
            return self._read_resource(params)
        return render_json(self._answer_simple(name, params))

    def _answer_simple(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        if name == "initialize":
            return _negotiate(params)
        if name == "ping":
            return {}
        if name == "resources/list":
            return {"resources": tools.ACCOUNT_RESOURCES if self._account else tools.PROJECT_RESOURCES}
        if name == "resources/templates/list":
            return {"resourceTemplates": []}
        raise RpcError("method_not_found")

    def _call_tool(self, params: dict[str, Any]) -> bytes:
        name = params.get("name")
        arguments = params.get("arguments") or {}
        if name not in PUBLISHED_TOOLS[self._kind]:
            raise RpcError("insufficient_scope" if name == "track_event" else "unknown_tool")
        if not isinstance(arguments, Mapping):
            raise RpcError("tool_failed", {"error": "invalid_params"})
        try:
            result = self._run_tool(str(name), arguments)
        except Denied as denied:
            data = {"error": denied.code, "details": denied.details, "retry_after_s": denied.retry_after}
            raise RpcError("tool_failed", {key: value for key, value in data.items() if value is not None}) from None
        return render_json({"content": [{"type": "text", "text": render_json(result).decode()}], "isError": False})

    def _run_tool(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if name == "track_event":
            project = self._service.warehouse.ensure(self._key.project)
            self._service.buckets.take(project.slug, "track")
            project.events.append(parse_event(arguments, self._service.clock.wall()))
            return {"ok": True}
        projects = self._chosen_projects(arguments)
        if name == "list_projects":
            return tools.list_projects(projects)
        if name == "compare_projects":
            return tools.compare_projects(projects, arguments)
        return tools.READS[name](projects, arguments)

    def _chosen_projects(self, arguments: Mapping[str, Any]) -> list[Project]:
        visible = self._service.visible_projects(self._key)
        if not self._account:
            return visible
        if not visible:
            raise RpcError("no_projects_visible")
        slug, identity, several = (arguments.get(name) for name in ("project_slug", "project_id", "project_ids"))
        if slug is not None:
            return [self._find_project("unknown_project_slug", slug=str(slug))]
        wanted = [identity] if identity is not None else several
        if not isinstance(wanted, list):
            return visible
        return [self._find_project("unknown_project_id", project_id=str(one)) for one in wanted]

    def _find_project(self, code: str, **which: str) -> Project:
        project = self._service.warehouse.find(**which)
        if project is None:
            raise RpcError(code)
        return project

    def _read_resource(self, params: dict[str, Any]) -> bytes:
        uri = str(params.get("uri"))
        content = tools.find_resource(uri, self._service.visible_projects(self._key), account=self._account)
        if content is None:
            raise RpcError("unknown_resource")
        return render_json({"contents": [{"uri": uri, "mimeType": "application/json", "text": render_json(content).decode()}]})


_METHODS = frozenset({"initialize", "ping", "tools/list", "tools/call", "resources/list", "resources/templates/list", "resources/read"})


def _negotiate(params: dict[str, Any]) -> dict[str, Any]:
    asked = params.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[0],
        "capabilities": {"tools": {"listChanged": False}, "resources": {"subscribe": False, "listChanged": False}},
        "serverInfo": {"name": "millimetric-sandbox", "version": "1.0.0"},
        "instructions": _INSTRUCTIONS,
    }
