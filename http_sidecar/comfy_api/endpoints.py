"""The routes of Comfy API v2."""

from aiohttp import web

from http_sidecar.app_state import IDENTIFIERS
from http_sidecar.comfy_api import assets, events, jobs
from http_sidecar.comfy_api.calls import refusing
from http_sidecar.comfy_api.shapes import API

JOB = f"{API}/jobs/{{jobId}}"
ASSET = f"{API}/assets/{{assetId}}"


def setup(app: web.Application) -> None:
    routes = app.router
    routes.add_post(f"{API}/jobs", refusing(jobs.create))
    routes.add_get(f"{API}/jobs", jobs.listed)
    routes.add_get(JOB, jobs.get)
    routes.add_get(f"{JOB}/events", events.stream, allow_head=False)
    routes.add_get(f"{JOB}/workflow", jobs.workflow)
    routes.add_post(f"{JOB}/cancel", jobs.cancel)
    routes.add_post(f"{API}/assets", refusing(assets.create))
    routes.add_post(f"{API}/assets/from-hash", refusing(assets.from_hash))
    routes.add_head(f"{API}/assets/by-hash/{{hash}}", assets.by_hash)
    routes.add_get(ASSET, assets.get)
    routes.add_delete(ASSET, refusing(assets.delete))
    routes.add_get(assets.CONTENT, assets.content)
    app[IDENTIFIERS].append(assets.identify)
