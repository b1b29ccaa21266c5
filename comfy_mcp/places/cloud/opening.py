"""Makes the place of a service. A process without one loads nothing of this folder but `kept`."""

from comfy_mcp.domain.ids import SALAD
from comfy_mcp.places.cloud.comfy_api import ComfyApi
from comfy_mcp.places.cloud.http import CloudHttp
from comfy_mcp.places.cloud.kept import KeptOutputs
from comfy_mcp.places.cloud.place import CloudPlace
from comfy_mcp.places.cloud.salad import Salad
from comfy_mcp.places.downloads import Downloads
from comfy_mcp.places.protocol import Locate
from comfy_mcp.settings import EngineSettings, Settings

FETCH_S = 3_600.0
"""For one output of a service that lies on another host."""


def open_place(lane: EngineSettings, settings: Settings, kept: KeptOutputs, locate: Locate) -> CloudPlace:
    http = CloudHttp(lane, settings)
    elsewhere = Downloads(private=settings.private_urls, limit_s=FETCH_S)
    return CloudPlace(Salad(http) if lane.id == SALAD else ComfyApi(http, elsewhere), kept, locate=locate)
