"""A graph sent to a running ComfyUI, run by its own Python: python comfyui_client.py ADDRESS PREVIEWS < graph.json

Prints what the host told: previews, cached and executed nodes, how it ended. It interrupts after PREVIEWS, 0 for never.
"""

import asyncio
import io
import json
import sys
import uuid
from typing import Any

import aiohttp
from PIL import Image


async def main(address: str, interrupt: int) -> dict[str, Any]:
    told: dict[str, Any] = {"previews": [], "cached": [], "executed": [], "progress": []}
    client = uuid.uuid4().hex
    async with aiohttp.ClientSession(base_url=address) as session, session.ws_connect(f"/ws?clientId={client}") as ws:
        async with session.post("/prompt", json={"prompt": json.load(sys.stdin), "client_id": client}) as answer:
            sent = await answer.json()
            if answer.status != 200:
                return told | {"end": "refused", "refused": sent}
        async for message in ws:
            if message.type == aiohttp.WSMsgType.BINARY:
                # Four bytes of kind, which is 1 or 4 for pictures; the picture's own format begins somewhere after.
                data = message.data
                start = data.find(b"\xff\xd8\xff") if b"\xff\xd8\xff" in data else data.find(b"\x89PNG")
                told["previews"].append(Image.open(io.BytesIO(data[start:])).size)
                if len(told["previews"]) == interrupt:
                    async with session.post("/interrupt") as answer:
                        await answer.read()
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") not in (None, sent["prompt_id"]):
                continue
            if kind == "execution_cached":
                told["cached"] = data["nodes"]
            elif kind == "executing" and data["node"]:
                told["executed"].append(data["node"])
            elif kind == "progress":
                told["progress"].append([data["node"], data["value"], data["max"]])
            elif kind in ("execution_success", "execution_interrupted", "execution_error"):
                told |= {"end": kind, "error": data.get("exception_message", "")}
                break
        # The host says that it is done a moment before it writes that down.
        for _ in range(100):
            async with session.get(f"/history/{sent['prompt_id']}") as answer:
                if (entry := (await answer.json()).get(sent["prompt_id"])) is not None:
                    return told | {"outputs": entry["outputs"]}
            await asyncio.sleep(0.1)
    return told | {"outputs": {}}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
