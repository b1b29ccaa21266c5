"""`python -m tests.hostile.watch URL`: milliseconds of each `GET /health`, until stdin closes; as JSON.

A process of its own, so that nothing but the service is measured.
"""

import asyncio
import json
import sys
import time

import aiohttp


async def main(url: str) -> None:
    found: list[float] = []
    end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        while not end.done():
            began = time.perf_counter()
            async with session.get(f"{url}/health") as answer:
                assert answer.status == 200
            found.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.01)
    print(json.dumps(sorted(found)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
