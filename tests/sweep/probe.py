"""A custom node without nodes: it lets the server collect its rubbish, and tell of what is then left. The soak puts it into its server."""

import ctypes
import gc
import os
from collections import Counter

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.get("/sweep/held")
async def held(_: web.Request) -> web.Response:
    """Memory that is held once nothing can be freed any more, without what the allocator keeps for later; and the commonest objects."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/smaps_rollup", encoding="ascii") as maps:
        kilobytes = sum(int(line.split()[1]) for line in maps if line.startswith("Anonymous:"))
    counted = Counter(type(one).__name__ for one in gc.get_objects())
    return web.json_response(
        {
            "megabytes": kilobytes / 1024,
            "files": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "objects": dict(counted.most_common(40)),
        }
    )
