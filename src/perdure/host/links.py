"""The URLs of the management API: for check-status responses and for the clients that functions get.

`base` is everything before the endpoints' own paths: `http://localhost:7071/runtime/webhooks/durabletask`.
"""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

WEBHOOK_PATH = "/runtime/webhooks/durabletask"

_CONNECTION = "Storage"
_ID_PLACEHOLDER = "INSTANCEID"
"""What the programming model puts the instance's id in the place of."""


def start_links(base: str, hub: str, instance_id: str) -> dict[str, str]:
    """The body of the response to a start, in the documented order."""
    links = management_links(base, hub, quote(instance_id, safe=""))
    del links["rewindPostUri"]
    return {"id": instance_id, **links}


def management_links(base: str, hub: str, instance_part: str) -> dict[str, str]:
    """`instance_part` is the id as it stands in a path. `{eventName}` and `{text}` are for the caller to replace."""
    instance = f"{base}/instances/{instance_part}"
    query = _query(hub)
    return {
        "statusQueryGetUri": f"{instance}?{query}",
        "sendEventPostUri": f"{instance}/raiseEvent/{{eventName}}?{query}",
        "terminatePostUri": f"{instance}/terminate?reason={{text}}&{query}",
        "rewindPostUri": f"{instance}/rewind?reason={{text}}&{query}",
        "purgeHistoryDeleteUri": f"{instance}?{query}",
        "restartPostUri": f"{instance}/restart?{query}",
        "suspendPostUri": f"{instance}/suspend?reason={{text}}&{query}",
        "resumePostUri": f"{instance}/resume?reason={{text}}&{query}",
    }


def client_binding(base: str, hub: str) -> str:
    """The value of a durable client binding: JSON that the client of the programming model is made from."""
    start = f"{base}/orchestrators/{{functionName}}[/{{instanceId}}]"
    query = _query(hub)
    return json.dumps(
        {
            "taskHubName": hub,
            "connectionName": None,
            "creationUrls": {
                "createNewInstancePostUri": f"{start}?{query}",
                "createAndWaitOnNewInstancePostUri": (
                    f"{start}?timeout={{timeoutInSeconds}}&pollingInterval={{intervalInSeconds}}&{query}"
                ),
            },
            "managementUrls": {"id": _ID_PLACEHOLDER, **management_links(base, hub, _ID_PLACEHOLDER)},
            "baseUrl": base,
            "requiredQueryStringParameters": query,
            "rpcBaseUrl": f"{base}/",
            "httpBaseUrl": None,
        }
    )


def _query(hub: str) -> str:
    return urlencode({"taskHub": hub, "connection": _CONNECTION})
