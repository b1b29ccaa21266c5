"""The models: of the configured folders where there are any, else of the engines; typed, paged, hashed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from comfy_mcp.domain.catalog import V1_MODEL_FOLDERS, Model, Page
from comfy_mcp.domain.cursors import cursor_of, invalid_cursor, position_in
from comfy_mcp.domain.errors import EngineFault, InvalidInput
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.library.model_disk import ModelDisk
from comfy_mcp.library.model_engines import ModelEngines, ModelSource
from comfy_mcp.library.model_files import FileKey, Scan, folder_of_type, type_of_folder
from comfy_mcp.library.model_hashes import HashCache, ModelHashes
from comfy_mcp.settings import FileGroup

log = structlog.get_logger(__name__)

_NO_DISK = Scan(whole=False, types=frozenset(), files=())


class ModelLibrary:
    """Lists models by type. `run` watches the folders and computes hashes; without it lists are right too."""

    def __init__(
        self,
        settings: FileGroup,
        *,
        timeout_s: float,
        engines: Mapping[EngineId, ModelSource],
        hashes: HashCache | None = None,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._disk = ModelDisk(
            models_dir=settings.models_dir,
            folders=settings.model_folders,
            force_polling=settings.force_polling,
            timeout_s=timeout_s,
        )
        self._engines = ModelEngines(engines, timeout_s=timeout_s)
        self._hashes = ModelHashes(hashes) if settings.hash_models else None
        self._on_change = on_change

    @property
    def age_s(self) -> float | None:
        """Seconds since the engines gave what was listed last, if none answers now."""
        return self._engines.age_s

    @property
    def watched(self) -> asyncio.Event:
        """Set while the folders are watched: a change shows in the next list at once."""
        return self._disk.watched

    async def run(self) -> None:
        """Watch and hash until cancelled. Returns at once where no folder is configured."""
        if not self._disk.is_configured:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._disk.watch(self._changed), name="model-watch")
            if self._hashes is not None:
                group.create_task(self._hashes.run(), name="model-hashes")

    async def types(self) -> tuple[str, ...]:
        """The contract's five, then all others that the folders or the engines have. Raises LimitExceeded."""
        scan = await self._scan()
        others = set(scan.types)
        if not scan.whole:
            try:
                others |= await self._engine_types()
            except EngineFault as fault:
                log.warning("model_types_incomplete", code=fault.code)
        return _in_order(others)

    async def list(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the contract's word
        search: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Model]:
        """One page, ordered by (type, name). `search` is a part of the name, in any case.

        `sha256` is None until it has been computed; listing a file queues it. Raises InvalidInput,
        LimitExceeded while a slow disk is read, and EngineFault when the models would have to come from
        engines and none answers.
        """
        if limit < 1:
            raise InvalidInput("`limit` must be at least 1.", next_step="Omit it to use the default.")
        after = None if cursor is None else _decode(cursor)
        found, keys = await self._found(type)
        needle = (search or "").casefold()
        matches = [each for each in found if needle in each.name.casefold()]
        rest = [each for each in matches if after is None or (each.type, each.name) > after]
        shown = rest[:limit]
        more = len(rest) > limit
        return Page(
            items=await self._with_hashes(shown, keys),
            next_cursor=cursor_of([shown[-1].type, shown[-1].name]) if more else None,
            total=len(matches),
        )

    async def _changed(self) -> None:
        if self._on_change is not None:
            await self._on_change()

    async def _scan(self) -> Scan:
        return await self._disk.scan() if self._disk.is_configured else _NO_DISK

    async def _found(self, asked: str | None) -> tuple[Sequence[Model], dict[tuple[str, str], FileKey]]:
        """Of the type that is meant: in another case, and as one of what it is called in the plural."""
        if asked is None:
            return await self._find(None, asked=None)
        try:
            return await self._find(_canonical(asked), asked=asked)
        except InvalidInput:
            plain = asked.strip().lower()
            kinds = [_canonical(each) for each in (plain, f"{plain}s", plain.removesuffix("s"))]
            known = set(await self.types())
            meant = next((kind for kind in kinds if kind in known), None)
            if meant is None:
                raise
            return await self._find(meant, asked=asked)

    async def _find(
        self, kind: str | None, *, asked: str | None
    ) -> tuple[Sequence[Model], dict[tuple[str, str], FileKey]]:
        """The models of one type or of all, sorted, and the files behind those that are on disk."""
        scan = await self._scan()
        keys = {(file.type, file.name): file.key for file in scan.files if kind in (None, file.type)}
        models = [
            Model(type=type_, name=name, size=key.size, modified_at=key.mtime_ns // 1_000_000)
            for (type_, name), key in keys.items()
        ]
        if kind is not None and (scan.whole or kind in scan.types):
            self._require_known(kind, scan.types, asked)
        elif not scan.whole:
            models += await self._of_engines(kind, scan, asked)
        return sorted(models, key=lambda model: (model.type, model.name)), keys

    async def _of_engines(self, kind: str | None, scan: Scan, asked: str | None) -> Sequence[Model]:
        try:
            offered = await self._engine_types()
            if kind is not None:
                self._require_known(kind, offered | scan.types, asked)
            wanted = sorted(offered - scan.types) if kind is None else [kind]
            folders = [folder for each in wanted for folder in await self._folders_of(each)]
            lists = [await self._engines.models(folder) for folder in folders]
        except EngineFault as fault:
            if kind is not None or not scan.types:
                raise
            log.warning("models_of_engines_left_out", code=fault.code)
            return []
        # Two engines may call the same folder by its old and its new name.
        union = {(each.type, each.name): each for models in lists for each in models}
        return [*union.values()]

    async def _engine_types(self) -> set[str]:
        return {kind for folder in await self._engines.folders() if (kind := type_of_folder(folder))}

    async def _folders_of(self, kind: str) -> Sequence[str]:
        """The engines' folders of a type: old versions say `unet` where new ones say `diffusion_models`."""
        folders = [each for each in await self._engines.folders() if type_of_folder(each) == kind]
        return folders or [folder_of_type(kind)]

    def _require_known(self, kind: str, known: set[str] | frozenset[str], asked: str | None) -> None:
        if kind in known or kind in V1_MODEL_FOLDERS:
            return
        types = _in_order(known)
        raise InvalidInput(
            f"There is no model type {asked!r}.",
            next_step=f"Use one of: {', '.join(types)}.",
            details={"types": list(types)},
        )

    async def _with_hashes(
        self, models: Sequence[Model], keys: Mapping[tuple[str, str], FileKey]
    ) -> tuple[Model, ...]:
        if self._hashes is None:
            return tuple(models)
        files = {each: keys[each.type, each.name] for each in models if (each.type, each.name) in keys}
        known = await self._hashes.get(files.values())
        return tuple(
            replace(each, sha256=known[files[each]]) if each in files and files[each] in known else each
            for each in models
        )


def _canonical(kind: str) -> str:
    return type_of_folder(folder_of_type(kind)) or kind


def _in_order(others: set[str] | frozenset[str]) -> tuple[str, ...]:
    return (*V1_MODEL_FOLDERS, *sorted(set(others) - set(V1_MODEL_FOLDERS)))


def _decode(cursor: str) -> tuple[str, str]:
    match position_in(cursor):
        case [str() as type, str() as name]:
            return type, name
        case _:
            raise invalid_cursor()
