"""Simulated nodes: each enrols, checks in, and does what it is told, with a result of its own."""

from dataclasses import dataclass, field
from typing import Any

from app.core.channel import parse_manifest
from app.core.fleetmessages import CheckIn, Enrolment, Report
from app.core.fleetnode import Node
from app.core.note import parse_note
from app.core.noun import checked
from app.core.principal import OPERATOR
from app.services.assembly import Services
from app.services.fleet.checkins import Action, CheckAnswer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@dataclass
class Machine:
    """A node: it obeys only a manifest that is not older than the newest that it saw."""

    services: Services
    node: Node
    token: str
    fails: bool = False
    current: str = ""
    seen: int = 0
    last: dict[str, str] | None = None
    declined: dict[str, Any] | None = None
    grants: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.node.id

    def message(self, **more: Any) -> CheckIn:
        values = {
            "node": self.id,
            "program": "0.1.0",
            "channel": self.node.channel,
            "current": self.current,
            "seen_revision": self.seen,
            "last": self.last,
            "declined": self.declined,
            "facts": {"os": "linux"},
        }
        return checked(CheckIn, values | more)

    async def check(self, traceparent: str = "", **more: Any) -> CheckAnswer:
        """Check in, and remember a grant."""
        check_ins = self.services.fleet.check_ins
        node = await check_ins.node_of(self.token)
        answer = await check_ins.check(node, self.message(**more), traceparent)
        if answer.action is Action.UPDATE:
            self.grants.append(answer.grant)
        return answer

    async def update(self, traceparent: str = "") -> CheckAnswer:
        """Check in, and obey."""
        answer = await self.check(traceparent)
        if answer.action is Action.UPDATE:
            await self.obey(answer, traceparent)
        return answer

    async def obey(self, answer: CheckAnswer, traceparent: str = "") -> None:
        manifest = parse_manifest(parse_note(answer.manifest.encode()).text)
        assert manifest.revision >= self.seen, "the node would refuse this manifest"
        self.seen = manifest.revision
        result = "failed" if self.fails else "succeeded"
        self.last = {"grant": answer.grant, "result": result, "stage": "tested", "reason": "exit 1"}
        if self.fails:
            await self.report("failed", answer.grant, traceparent, stage="tested", reason="exit 1")
        else:
            self.current = manifest.current
            self.last |= {"stage": "switched", "reason": ""}
            await self.report("switched", answer.grant, traceparent)

    async def report(self, event: str, grant: str, traceparent: str = "", **more: Any) -> None:
        check_ins = self.services.fleet.check_ins
        values = {"node": self.id, "grant": grant, "event": event, "seconds": {"network": 1.5}}
        report = checked(Report, values | more)
        await check_ins.report(await check_ins.node_of(self.token), report, traceparent)


async def enrol(
    services: Services, names: list[str], channel: str = "stable", group: str = "web"
) -> list[Machine]:
    """Return machines that enrolled with one token."""
    _, token = await services.fleet.enrolment.create_token(
        OPERATOR, channel, group=group, uses=len(names)
    )
    machines = []
    for name in names:
        enrolled = await services.fleet.enrolment.enrol(Enrolment(token=token, name=name))
        machines.append(Machine(services, enrolled.node, enrolled.token))
    return machines


async def settle(services: Services) -> None:
    """Do what the loops of a process do within a second."""
    await services.fleet.check_ins.flush()
    await services.fleet.rollouts.step()
    await services.shared.watch.poll()
    await services.fleet.view.step()
