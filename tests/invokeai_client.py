"""A graph sent to a running InvokeAI, run by its own Python: python invokeai_client.py ADDRESS PREVIEWS < graph.json

Prints what the host told: previews, progress, how it ended, each node's output. It cancels after PREVIEWS, 0 for never.
"""

import asyncio
import base64
import io
import json
import sys
from typing import Any

import httpx
import websockets
from PIL import Image


async def main(address: str, cancel: int) -> dict[str, Any]:
    told: dict[str, Any] = {"previews": [], "progress": [], "outputs": {}, "error": ""}
    api, queue = f"http://{address}/api/v1", "/queue/default"
    # socket.io by hand: 0 opens, 40 connects, 2 is answered by 3, 42 are events.
    where = f"ws://{address}/ws/socket.io/?EIO=4&transport=websocket"
    async with httpx.AsyncClient(timeout=60) as http, websockets.connect(where, max_size=None) as ws:
        await ws.recv()
        await ws.send("40")
        await ws.recv()
        await ws.send('42["subscribe_queue",{"queue_id":"default"}]')
        batch = {"batch": {"graph": json.load(sys.stdin), "runs": 1}, "prepend": False}
        answer = await http.post(f"{api}{queue}/enqueue_batch", json=batch)
        if answer.status_code >= 300:
            return told | {"end": "refused", "error": answer.text}
        (item,) = answer.json()["item_ids"]
        async for message in ws:
            text = message if isinstance(message, str) else ""
            if text == "2":
                await ws.send("3")
            if not text.startswith("42"):
                continue
            kind, data = json.loads(text[2:])
            if data.get("item_id") != item:
                continue
            if kind == "invocation_progress":
                told["progress"].append([data["message"], data["percentage"]])
                if data["image"]:
                    shown = base64.b64decode(data["image"]["dataURL"].split(",", 1)[1])
                    told["previews"].append(Image.open(io.BytesIO(shown)).size)
                    if len(told["previews"]) == cancel:
                        await http.put(f"{api}{queue}/i/{item}/cancel")
            elif kind == "invocation_complete":
                told["outputs"][data["invocation_source_id"]] = data["result"]
            elif kind == "queue_item_status_changed" and data["status"] in ("completed", "failed", "canceled"):
                return told | {"end": data["status"], "error": data["error_message"] or ""}
    return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
