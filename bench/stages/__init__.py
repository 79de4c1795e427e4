"""Eight stages that do nothing, to measure what running a stage costs."""

import dagster as dg


def _stages() -> list[dg.AssetsDefinition]:
    made: list[dg.AssetsDefinition] = []
    for number in range(8):

        @dg.asset(name=f"stage_{number}", deps=[made[-1]] if made else None)
        def stage() -> None: ...

        made.append(stage)
    return made


stages = _stages()
