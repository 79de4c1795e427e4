"""The way of a version into service, the same on every target:

    prepared -> ready -> golden -> replayed -> shadowed -> canary -> promoted -> baked
        \\________\\________\\__________\\___________\\_________\\__________/
                          rolled_back, from each, with its reason

`replayed` to `canary`, and `baked`, need a champion to be compared with, and a policy; without requests they are left
out, as the policy says. Until `promoted` the champion answers, but for the canary's share. Each state is recorded with
its figures. A proof that fails because the candidate lost its place, as on a node that is drained, begins again once it
is `ready` elsewhere. A roll-out that was killed begins again from `prepared`; the servers end what it had them share
themselves.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_assets.ml.errors import DeploymentError, LakeError, MlopsError
from mlops_assets.ml.inference.artifact import ModelSignature
from mlops_assets.serving.traffic import Candidate, Observed
from resources.serving.golden_rows import Proof, RolloutStep, verify_golden_rows
from resources.serving.label_evidence import label_evidence
from resources.serving.labelled_requests import labelled_rows
from resources.serving.replay import logged_requests, not_replayable, replay, replayable
from resources.serving.rollout_guards import Judgement, distance, judge, judge_champion, share_not_honoured

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from mlops_assets.serving.declaration import ServedVersion
    from resources.serving.golden_rows import Endpoint
    from resources.serving.live_traffic import LiveTraffic
    from resources.serving.serving_steps import ServingSteps

LOOK_S = 2.0
FOLLOWED_S, HONOURED_S = 20.0, 60.0  # until when servers must have begun with what they are told, and keep to it
RECENT = timedelta(hours=1)
HOLD = timedelta(hours=1)
MARGIN = 1.5  # by which the live answers of a version that labels let through may be farther than its replayed ones
LABELLED = 1_000  # requests that are asked again to judge by their labels
MOVES = 3  # as often a candidate may lose its place; more is no chance
Proved = TypeVar("Proved")


class Rollout:
    """The roll-out of one version of a model; `record` keeps each step, and `live` are the model's requests.

    Without `live` a version is proved on its golden rows alone.
    """

    def __init__(
        self,
        target: ServingSteps,
        model: str,
        artifact: Path,
        version: ServedVersion,
        live: LiveTraffic | None,
        record: Callable[[RolloutStep], object],
    ) -> None:
        self.target, self.model, self.artifact, self.version = target, model, artifact, version
        self.live, self._record = live, record
        self.signature = ModelSignature.read(artifact)
        self.steps, self.compared = list[RolloutStep](), Observed()
        self.max_changed: float | None = None  # as the policy says, unless labels say more
        self.moves = 0

    def run(self) -> Proof:
        """Go the whole way; whatever goes wrong, the version that answered before goes on, or answers again.

        Raises:
            DeploymentError: the version was refused, with the proof that it failed and its figures.
        """
        target, model, new = self.target, self.model, self.version
        name = f"Version {new.version} of {model}"
        before = target.current(model)
        stays = f"version {before.version} keeps answering" if before else "nothing is served"
        if self.live:
            self.live.end()  # what a killed roll-out has left
        target.store(model, new, self.artifact)
        self._reached("prepared", f"beside version {before.version}" if before else "the first version")
        if target.serves(model, new):
            proof = self._verified(target.make_champion(model, new))
            self._reached("promoted", "it was served already")
        else:
            with self._undone_by(lambda: target.retire_candidate(model), f"{name} was not rolled out, {stays}"):
                candidate = target.start_candidate(model, new)
                self._reached("ready", candidate.url)
                golden = self._where_it_stays(lambda: self._verified(candidate))
                self._reached("golden", f"{golden.rows} rows, largest difference {golden.difference:.2g}")
                has_traffic = self._proved(candidate, before) if self.live and before else False
                if self.live:
                    self.live.check()  # proofs take minutes, in which another process may have taken over
            with self._undone_by(lambda: self._back_to(before), f"{name} was rolled back"):
                proof = self._verified(target.make_champion(model, new))
                self._reached("promoted", f"{proof.rows} golden rows, largest difference {proof.difference:.2g}")
                if has_traffic and before:
                    self._baked(before)
        target.delete_all_but(model, [new, before or new])
        return proof.model_copy(update={"steps": tuple(self.steps), "pairs": self.compared.pairs})

    def _back_to(self, before: ServedVersion | None) -> None:
        self.target.rollback(self.model, before)
        self.target.retire_candidate(self.model)

    def _verified(self, endpoint: Endpoint) -> Proof:
        return verify_golden_rows(endpoint, self.signature, self.target.post)

    def _proved(self, candidate: Endpoint, before: ServedVersion) -> bool:
        """Prove a candidate on requests, logged and live; whether there were enough of these."""
        assert self.live
        policy = self.live.policy
        last = self._where_it_stays(lambda: self._replayed(candidate, before)) if policy.replay_requests else None
        # A log that keeps a share of the requests does not tell whether there were any
        keeps_all = policy.replay_requests and before.log and before.log.rate == 1
        quiet = keeps_all and (last is None or datetime.now(UTC) - last > RECENT)
        if quiet and policy.too_little_traffic == "promote":
            self._reached("shadowed", "no: nobody has asked for an hour")
            return False
        share = Candidate(version=self.version.version, url=candidate.url)
        phases = (
            ("shadowed", policy.shadow_requests, {"mirrored": policy.shadow_percent / 100}),
            ("canary", policy.canary_requests, {"handed": policy.canary_percent / 100}),
        )
        wanted = [phase for phase in phases if phase[1]]

        def watched(state: str, requests: int, shares: dict[str, float]) -> bool:
            told = share.model_copy(update=shares)
            return self._where_it_stays(lambda: self._watched(state, requests, told, before))

        return bool(wanted) and all(watched(*phase) for phase in wanted)

    def _where_it_stays(self, proof: Callable[[], Proved]) -> Proved:
        """What a proof of the candidate gives, done anew where the candidate has lost its place while it failed.

        A server that is told to go refuses requests, and the node that went is no fault of its version.
        """
        while True:
            try:
                return proof()
            except DeploymentError as error:
                if self.moves == MOVES or not self.target.candidate_has_moved(self.model):
                    raise
                self.moves += 1
                self._reached("ready", f"again, after its server was taken away ({str(error).splitlines()[0]})")

    def _replayed(self, candidate: Endpoint, before: ServedVersion) -> datetime | None:
        """Replay logged requests; when the last request came."""
        assert self.live
        policy = self.live.policy
        logged = logged_requests(self.live.store, self.live.model, before.version, policy.replay_requests)
        if before.log is None:
            self._reached("replayed", f"no: it is not known what the log of version {before.version} keeps")
        elif reason := not_replayable(
            logged.requests, self.signature.inputs, (*before.log.leave_out, *before.log.hash)
        ):
            self._reached("replayed", f"no: {reason}")
        elif not logged.requests:
            self._reached("replayed", f"no: of version {before.version} no request is logged")
        else:
            requests = replayable(logged.requests, self.signature.inputs)
            seen = replay(requests, candidate, self.signature, self.target.post)
            note = self._judged_by_labels(seen, candidate, before)
            self._judged("replayed", seen, final=True, note=note)
            self.compared += seen
        return logged.last

    def _judged_by_labels(self, seen: Observed, candidate: Endpoint, before: ServedVersion) -> str:
        """What labels say of a candidate that answers too far otherwise; where it mends the champion, it may.

        Live requests have no labels yet. Of these it may be as far from the champion as in the replay, and farther by
        half of that, or by what the policy allows: other rows of the same versions are not equally far apart.
        """
        assert self.live
        live, policy, task = self.live, self.live.policy, self.signature.task
        apart = distance(seen, task)
        if apart <= policy.max_changed or not policy.judge_by_labels:
            return ""
        rows = labelled_rows(
            live.store, live.model, before.version, LABELLED, candidate, self.signature, self.target.post
        )
        evidence = label_evidence(rows, task)
        if evidence.mends:
            self.max_changed = max(MARGIN * apart, apart + policy.max_changed)
        return evidence.in_words

    def _watched(self, state: str, requests: int, share: Candidate, before: ServedVersion) -> bool:
        """Watch a candidate until it has had so many requests; not where too few came, and that is allowed."""
        assert self.live
        policy, begin = self.live.policy, time.monotonic()
        patience = (HOLD if policy.too_little_traffic == "hold" else policy.patience).total_seconds()
        with self.live.shared(before.version, share) as traffic:
            while True:
                time.sleep(LOOK_S)
                seen, servers = self.live.observed(traffic)
                waited, count = time.monotonic() - begin, seen.mirrored + seen.handed
                self._judged(None, seen, state=state)
                unheard = share_not_honoured(seen, traffic) if waited > HONOURED_S else None
                if unheard:
                    raise DeploymentError(f"{state}: {unheard}")
                if count >= requests:
                    self._judged(state, seen, final=True)
                    self.compared += seen
                    return True
                nobody = waited > FOLLOWED_S and not (seen.asked or seen.handed)
                if waited > patience or (nobody and policy.too_little_traffic == "promote"):
                    break
        who = "no server of the champion follows" if not servers else f"{count} of {requests} requests"
        found = f"too little traffic: {who} within {waited:.0f} s"
        if policy.too_little_traffic != "promote":
            raise DeploymentError(f"{state}: {found}", remedy="lower deploy.rollout's requests, or raise its shares")
        self._judged(state, seen, final=True, note=found)
        return False

    def _baked(self, before: ServedVersion) -> None:
        """Keep the version before running for a while; when the new one fails, it answers at once."""
        assert self.live
        bake = self.live.policy.bake
        if bake is None:
            return
        warm, begin = self.target.start_candidate(self.model, before), time.monotonic()
        back = Candidate(version=before.version, url=warm.url, mirrored=self.live.policy.shadow_percent / 100)
        judgement = Judgement(measured="", failed=())
        with self.live.shared(self.version.version, back) as traffic:
            while time.monotonic() - begin < bake.total_seconds() and not judgement.failed:
                time.sleep(LOOK_S)
                judgement = judge_champion(self.live.observed(traffic)[0], self.live.policy)
        if not judgement.failed:
            self.target.retire_candidate(self.model)
            self._reached("baked", judgement.measured)
            return
        with self.live.shared(self.version.version, back.model_copy(update={"handed": 1.0, "mirrored": 0.0})):
            time.sleep(2 * LOOK_S)  # until each server hands over all
            self.target.rollback(self.model, before)
        raise DeploymentError(f"baked: {'; '.join(judgement.failed)}")

    def _judged(
        self, reached: str | None, seen: Observed, *, final: bool = False, state: str = "", note: str = ""
    ) -> None:
        """Fail by the figures, or reach a state by them."""
        assert self.live
        judgement = judge(seen, self.live.policy, self.signature.task, final=final, max_changed=self.max_changed)
        if judgement.failed:
            raise DeploymentError(f"{reached or state}: {'; '.join(filter(None, (*judgement.failed, note)))}")
        if reached:
            self._reached(reached, "; ".join(filter(None, (note, judgement.measured))))

    def _reached(self, state: str, found: str) -> None:
        self.steps.append(RolloutStep(state=state, time=datetime.now(UTC), found=found))
        self._record(self.steps[-1])

    @contextmanager
    def _undone_by(self, undo: Callable[[], None], outcome: str) -> Generator[None]:
        """Undo what the block did when anything is raised in it, a signal's exception too."""
        try:
            yield
        except BaseException as error:
            undo()
            with suppress(LakeError, OSError):  # the reason must be told also where it cannot be written down
                # The first line says it; what follows is of pods, and stands in the step's error
                self._reached("rolled_back", (str(error) or type(error).__name__).splitlines()[0])
            if isinstance(error, MlopsError):
                raise DeploymentError(f"{outcome}: {error}") from error
            raise


def nothing_recorded(_: Any) -> None:
    """Keep no step."""
