"""What stages need of a machine beside a processor, and how they share it. The names stand here and nowhere else."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

# Stages by the name before the "@". TensorFlow takes the whole memory of a GPU that it can see.
ON_GPU = frozenset({"weights", "features", "views", "tune", "unfreeze", "finetune", "explain", "export"})
# What else runs would be measured with it.
ALONE = frozenset({"benchmark", "export"})
GPU_DEVICE = Path("/dev/nvidia0")

_POLL_SECONDS = 2.0
# After so long without a sign of life from the flow that holds it, the GPU is given to the next.
_LEASE_SECONDS = 60.0


def fits(stage: str, running: Collection[str]) -> bool:
    """Return whether `stage` may run on this machine beside those `running`."""
    together = [stage, *running]
    if len(together) > 1 and any(_kind(name) in ALONE for name in together):
        return False
    return not (uses_gpu(stage) and any(map(uses_gpu, running)))


def uses_gpu(stage: str) -> bool:
    """Return whether `stage` computes on a GPU, and there is one that it can see."""
    visible = GPU_DEVICE.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    return visible and _kind(stage) in ON_GPU


@contextlib.contextmanager
def gpu(check: Callable[[], None], log: Callable[[str], None]) -> Iterator[None]:
    """Hold this machine's GPU: Prefect lends it to one stage at a time, of whatever flow.

    While it is lent to another, `check` is called again and again, and may raise.
    """
    name = _limit()
    with contextlib.ExitStack() as held:
        check()
        if not (_free(name) and _lent(name, held)):
            log(
                "Waiting for the GPU, which another flow holds. Should there be none: "
                f"prefect global-concurrency-limit update {name} --active-slots 0"
            )
            while not (_free(name) and _lent(name, held)):
                time.sleep(_POLL_SECONDS)
                check()
        yield


def _free(name: str) -> bool:
    """Return whether the GPU may be to be had: asking for it in vain is an error in Prefect's log."""
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(name)
    return limit.active_slots < limit.limit


def _lent(name: str, held: contextlib.ExitStack) -> bool:
    """Try to get the GPU, to be given back when `held` is closed; return whether it was to be had."""
    # Without `strict` a limit that somebody has deleted would be no limit. A server that is away for a
    # minute must not cost hours of training, though. A time limit here could leave the GPU to nobody: the
    # server may grant what is not waited for any more.
    slot = concurrency(
        name, max_retries=0, lease_duration=_LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False
    )
    try:
        held.enter_context(slot)
    except ConcurrencySlotAcquisitionError as error:
        cause = error.__cause__
        if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == httpx.codes.LOCKED:
            return False  # Another was faster.
        raise
    return True


def _limit() -> str:
    """Return the name of the limit for this machine's GPU; make it, of one stage, where there is none."""
    name = f"gpu-{socket.gethostname()}"
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return name


def _kind(stage: str) -> str:
    return stage.partition("@")[0]
