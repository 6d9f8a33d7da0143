"""The REST endpoints do what they say, on real events."""

from __future__ import annotations

from tests.support.sandbox import SandboxControl, build_client


def test_events_in_and_out(control: SandboxControl) -> None:
    key = control.mint("sk", project="shop")
    with build_client(control.url, headers={"Authorization": f"Bearer {key.reveal()}"}) as client:
        for hour, user in (("10", "a"), ("11", "b"), ("12", "a")):
            event = {"event": "buy", "user_id": user, "timestamp": f"2026-05-01T{hour}:00:00Z", "properties": {"n": 1}}
            assert client.post("/v1/track", json=event).status_code == 202
        assert client.post("/v1/batch", json={"events": [{"event": "view", "source": "ad"}]}).json()["accepted"] == 1
        assert client.post("/v1/identify", json={"user_id": "a"}).status_code == 202
        span = {"from": "2026-05-01T10:00:00Z", "to": "2026-05-01T12:00:00Z"}
        found = client.get("/v1/query", params=span).json()
        assert [event["timestamp"] for event in found["events"]] == ["2026-05-01T11:00:00.000Z", "2026-05-01T10:00:00.000Z"]
        stats = client.get("/v1/stats", params={"group_by": "event"}).json()
        assert stats == {"total": 4, "unique_users": 2, "groups": [{"key": "buy", "count": 3}, {"key": "view", "count": 1}]}
        assert client.get("/v1/sources").json()["sources"][0] == {"source": "direct", "count": 3}
        assert client.post("/v1/forget", json={"user_id": "a"}).json()["deleted"] == 2
        assert client.get("/v1/stats").json()["total"] == 2


def test_a_batch_is_all_or_nothing(control: SandboxControl) -> None:
    key = control.mint("sk", project="shop")
    with build_client(control.url, headers={"Authorization": f"Bearer {key.reveal()}"}) as client:
        assert client.post("/v1/batch", json={"events": [{"event": "a"}, {"event": 1}]}).status_code == 400
        assert client.get("/v1/stats").json()["total"] == 0
