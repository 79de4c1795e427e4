"""Keeps a server's splits as the lake has them, and writes there what they have seen."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import TYPE_CHECKING

import aiohttp
from pydantic import ValidationError

from mlops_assets.serving.traffic import LEASE_S, Observed, Traffic, observed_folder, traffic_key
from mlops_assets.serving.traffic_split import TrafficSplit

if TYPE_CHECKING:
    from mlops_assets.serving.lake_files import LakeFiles
    from mlops_assets.serving.model_repository import Repository

LOOK_S = 2.0
log = logging.getLogger("mlops_assets.serving")


class TrafficFollower:
    """The splits of the models that a server has as champions.

    One ends when its file says so, when another version is served, and when nothing was heard for LEASE_S of whoever
    watches over it, also because the lake is away.
    """

    def __init__(self, lake: LakeFiles, repository: Repository) -> None:
        self._lake, self._repository = lake, repository
        self._server = uuid.uuid4().hex[:16]
        self._splits = dict[str, TrafficSplit]()
        self._heard = dict[str, tuple[str, int, float]]()  # of each model the id, the beat, and when it was new
        self._written = dict[str, tuple[str, Observed]]()

    def split(self, model: str) -> TrafficSplit | None:
        """How the requests of a model are shared now; None where the champion answers all."""
        return self._splits.get(model)

    async def follow(self) -> None:
        """Look every few seconds, until it is cancelled."""
        cookies = aiohttp.DummyCookieJar()  # one that a gateway sets for a caller's request is not the next one's
        async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=cookies) as session:
            while True:
                for model in list(self._repository.models):
                    await self._look(model, session)
                await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """Write what was seen, a last time."""
        for model, split in self._splits.items():
            await self._write(model, split)
            split.end()
        self._splits.clear()

    async def _look(self, model: str, session: aiohttp.ClientSession) -> None:
        try:
            content = await asyncio.to_thread(self._lake.get, traffic_key(model))
            wanted = self._in_force(model, Traffic.model_validate_json(content) if content else None)
        except ValidationError as error:
            log.error("%s: its traffic cannot be read: %s", model, error.errors()[0]["msg"])
            wanted = None
        except Exception as error:
            if model in self._splits:
                log.warning("%s: its traffic cannot be read now: %s", model, error)
            wanted = self._still_in_force(model)
        running = self._splits.get(model)
        if running is not None and wanted is not None and wanted.id == running.traffic.id:
            await self._write(model, running)  # else whoever would read it has gone
        if running is not None and (wanted is None or wanted.id != running.traffic.id):
            self._splits.pop(model).end()
            log.warning("%s: version %s answers all requests again", model, running.traffic.champion)
        if wanted is not None and (running is None or wanted.id != running.traffic.id):
            self._splits[model] = TrafficSplit(wanted, session, self._before(model))
            await self._write(model, self._splits[model])  # that it follows
            share = wanted.candidate
            log.warning(
                "%s: version %s gets copies of %g and answers %g of the requests",
                *(model, share.version, share.mirrored, share.handed),
            )

    def _in_force(self, model: str, traffic: Traffic | None) -> Traffic | None:
        running = self._repository.models.get(model)
        if traffic is None or running is None or running.served.version != traffic.champion:
            return None
        known, now = self._heard.get(model), time.monotonic()
        if known is None or known[:2] != (traffic.id, traffic.beat):
            self._heard[model] = (traffic.id, traffic.beat, now)
        return traffic if now - self._heard[model][2] < LEASE_S else None

    def _before(self, model: str) -> Observed:
        """How often a model was asked until now, and when last."""
        running = self._repository.models[model]
        return Observed(asked_before=running.asked, idle_s=time.perf_counter() - running.asked_at)

    def _still_in_force(self, model: str) -> Traffic | None:
        split = self._splits.get(model)
        return split and self._in_force(model, split.traffic.model_copy(update={"beat": self._heard[model][1]}))

    async def _write(self, model: str, split: TrafficSplit) -> None:
        seen = split.traffic.id, split.observed
        if seen == self._written.get(model):
            return
        key = f"{observed_folder(model, split.traffic.id)}/{self._server}.json"
        try:
            await asyncio.to_thread(self._lake.put, key, seen[1].model_dump_json().encode())
            self._written[model] = seen
        except Exception as error:
            log.warning("%s: what its candidate answers cannot be written now: %s", model, error)
