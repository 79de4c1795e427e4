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
from resources.serving.live_traffic import patiently
from resources.serving.replay import logged_requests, not_replayable, replay, replayable
from resources.serving.rollout_guards import (
    Judgement,
    distance,
    few_keys,
    judge,
    judge_champion,
    share_not_honoured,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from mlops_assets.serving.declaration import ServedVersion
    from resources.serving.golden_rows import Endpoint
    from resources.serving.live_traffic import LiveTraffic
    from resources.serving.serving_steps import ServingSteps

LOOK_S = 2.0
FOLLOWED_S, HONOURED_S = 20.0, 60.0  # until when servers must have begun with what they are told, and keep to it
ALL_FOLLOW_S = 5.0  # after the first server has begun, by when the others have
NOBODY_S = 30.0  # for which no server was asked, where nobody asks
RECENT = timedelta(hours=1)
HOLD = timedelta(hours=1)
MARGIN = 1.5  # by which the live answers of a version that labels let through may be farther than its replayed ones
LESS = "lower deploy.rollout's requests, or raise its shares"
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
                    patiently(self.live.check)  # proofs take minutes, in which another process may have taken over
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
        quiet = bool(keeps_all and (last is None or datetime.now(UTC) - last > RECENT))
        share = Candidate(version=self.version.version, url=candidate.url)
        phases = (
            ("shadowed", policy.shadow_requests, {"mirrored": policy.shadow_percent / 100}),
            ("canary", policy.canary_requests, {"handed": policy.canary_percent / 100}),
        )
        wanted = [phase for phase in phases if phase[1]]

        def watched(state: str, requests: int, shares: dict[str, float]) -> bool:
            told = share.model_copy(update=shares)
            return self._where_it_stays(lambda: self._watched(state, requests, told, before, quiet=quiet))

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
                self._reached("ready", f"again, after its server was taken away ({_first_line(error)})")

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
        if apart.perhaps <= policy.max_changed or not policy.judge_by_labels:
            return ""
        rows = labelled_rows(
            live.store, live.model, before.version, LABELLED, candidate, self.signature, self.target.post
        )
        evidence = label_evidence(rows, task)
        if evidence.mends:
            self.max_changed = max(MARGIN * apart.perhaps, apart.perhaps + policy.max_changed)
        return evidence.in_words if evidence.mends or apart.value > policy.max_changed else ""

    def _watched(self, state: str, requests: int, share: Candidate, before: ServedVersion, *, quiet: bool) -> bool:
        """Watch a candidate until it has had so many requests; not where too few came, and that is allowed.

        `quiet` is a log without a request for an hour. What came in the last half minute is not in it yet: servers say.
        """
        assert self.live
        policy, begin, followed = self.live.policy, time.monotonic(), None
        patience = (HOLD if policy.too_little_traffic == "hold" else policy.patience).total_seconds()
        with self.live.shared(before.version, share) as traffic:
            while True:
                time.sleep(LOOK_S)
                seen, servers = self.live.observed(traffic)
                now, count = time.monotonic(), seen.mirrored + seen.handed
                waited, followed = now - begin, followed or (now if servers else None)
                self._judged(None, seen, state=state)
                unheard = share_not_honoured(seen, traffic) if waited > HONOURED_S else None
                if unheard:
                    raise DeploymentError(f"{state}: {unheard}")
                if count >= requests:
                    self._judged(state, seen, final=True, note=few_keys(seen, traffic) or "")
                    self.compared += seen
                    return True
                followed_s = now - followed if followed else 0.0
                if policy.too_little_traffic == "promote" and quiet and _nobody_ever(seen, waited, followed_s):
                    self._reached(state, "no: nobody has asked for an hour")
                    return False
                nobody = policy.too_little_traffic == "promote" and _nobody_now(seen, followed_s)
                if waited > patience or nobody:
                    break
        who = f"{count} of {requests} requests" if servers else "no server of the champion follows"
        few = few_keys(seen, traffic)
        found = "; ".join(filter(None, (f"too little traffic: {who} within {waited:.0f} s", few)))
        if policy.too_little_traffic != "promote":
            remedy = "send other ids or none, or name a canary_header" if few else LESS
            raise DeploymentError(f"{state}: {found}", remedy=remedy)
        self._judged(state, seen, final=True, note=found)
        return False

    def _baked(self, before: ServedVersion) -> None:
        """Keep the version before running for a while; when the new one fails, it answers at once.

        The new version is proved. What befalls the one before is told, and held against nobody.
        """
        assert self.live
        bake = self.live.policy.bake
        if bake is None:
            return
        warm, alone = self._kept_up(before)
        mirrored = self.live.policy.shadow_percent / 100 if warm else 0.0
        back = Candidate(version=before.version, url=warm.url if warm else "", mirrored=mirrored)
        judgement, begin = Judgement(measured="", failed=()), time.monotonic()
        with self.live.shared(self.version.version, back) as traffic:
            while time.monotonic() - begin < bake.total_seconds() and not judgement.failed:
                time.sleep(LOOK_S)
                judgement = judge_champion(self.live.observed(traffic)[0], self.live.policy)
        if not judgement.failed:
            self._reached("baked", "; ".join(filter(None, (judgement.measured, alone, self._taken_down(before)))))
            return
        if warm:
            with self.live.shared(self.version.version, back.model_copy(update={"handed": 1.0, "mirrored": 0.0})):
                time.sleep(2 * LOOK_S)  # until each server hands over all
                self.target.rollback(self.model, before)
        raise DeploymentError(f"baked: {'; '.join(judgement.failed)}")

    def _kept_up(self, before: ServedVersion) -> tuple[Endpoint | None, str]:
        """Where the version before answers, or why it does not."""
        try:
            return self.target.start_candidate(self.model, before), ""
        except (MlopsError, OSError) as error:
            return None, f"version {before.version} could not be kept up beside it ({_first_line(error)})"

    def _taken_down(self, before: ServedVersion) -> str:
        """Take the version before down; why that did not go, else nothing."""
        try:
            self.target.retire_candidate(self.model)
        except (MlopsError, OSError) as error:
            return f"version {before.version} is still up beside it ({_first_line(error)}), until the next roll-out"
        return ""

    def _judged(
        self, reached: str | None, seen: Observed, *, final: bool = False, state: str = "", note: str = ""
    ) -> None:
        """Fail by the figures, or reach a state by them."""
        assert self.live
        judgement = judge(
            seen,
            self.live.policy,
            self.signature.task,
            final=final,
            max_changed=self.max_changed,
            before=self.compared,
        )
        if judgement.failed:
            raise DeploymentError(f"{reached or state}: {'; '.join(filter(None, (*judgement.failed, note)))}")
        if reached:
            self._reached(reached, "; ".join(filter(None, (note, judgement.measured))))

    def _reached(self, state: str, found: str) -> None:
        step = RolloutStep(state=state, time=datetime.now(UTC), found=found)
        self.steps.append(step)
        patiently(lambda: self._record(step))

    @contextmanager
    def _undone_by(self, undo: Callable[[], None], outcome: str) -> Generator[None]:
        """Undo what the block did when anything is raised in it, a signal's exception too."""
        try:
            yield
        except BaseException as error:
            try:
                undo()
            except (MlopsError, OSError) as another:
                outcome = f"{outcome}, and what was begun could not be taken back ({_first_line(another)})"
            with suppress(LakeError, OSError):  # the reason must be told also where it cannot be written down
                self._reached("rolled_back", _first_line(error))
            if isinstance(error, MlopsError):
                raise DeploymentError(f"{outcome}: {error}") from error
            raise


def _nobody_ever(seen: Observed, waited: float, followed_s: float) -> bool:
    """Whether no server was asked since it has its version, as far as servers are there to say so."""
    asked = seen.asked_before or seen.asked or seen.handed
    return not asked and (followed_s > ALL_FOLLOW_S or (waited > FOLLOWED_S and not followed_s))


def _nobody_now(seen: Observed, followed_s: float) -> bool:
    """Whether servers follow and were not asked for a while. Those that have just begun do not know yet."""
    unasked_s = (seen.idle_s or 0.0) + followed_s
    return not (seen.asked or seen.handed) and followed_s > ALL_FOLLOW_S and unasked_s > NOBODY_S


def _first_line(error: BaseException) -> str:
    """What says it; what follows is of pods, and stands in the step's error."""
    return (str(error) or type(error).__name__).splitlines()[0]


def nothing_recorded(_: Any) -> None:
    """Keep no step."""
