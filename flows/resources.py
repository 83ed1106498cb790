"""What the stages of all flows share on one machine: its GPU, and quiet for measuring.

The names of stages that need them are listed only here.
"""

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

# Stages by the name before the "@". TensorFlow takes the whole memory of a visible GPU.
ON_GPU = frozenset({"weights", "features", "views", "tune", "unfreeze", "finetune", "explain", "export"})
# Stages that measure time: others running beside them would distort the result.
ALONE = frozenset({"benchmark", "export"})
GPU_DEVICE = Path("/dev/nvidia0")

_POLL_SECONDS = 2.0
# After this time without a heartbeat from the flow that holds it, the GPU goes to the next.
_LEASE_SECONDS = 60.0


def has_capacity(stage: str, running: Collection[str]) -> bool:
    """Return whether `stage` may run on this machine beside those `running`."""
    together = [stage, *running]
    if len(together) > 1 and any(_kind(name) in ALONE for name in together):
        return False
    return not (uses_gpu(stage) and any(map(uses_gpu, running)))


def uses_gpu(stage: str) -> bool:
    """Return whether `stage` uses a GPU, and one is visible."""
    visible = GPU_DEVICE.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    return visible and _kind(stage) in ON_GPU


@contextlib.contextmanager
def gpu(check: Callable[[], None], log: Callable[[str], None]) -> Iterator[None]:
    """Hold this machine's GPU: Prefect grants it to one stage at a time, of any flow.

    While another holds it, `check` is called repeatedly, and may raise.
    """
    name = _limit()
    with contextlib.ExitStack() as held:
        check()
        if not (_looks_free(name) and _acquired(name, held)):
            log(
                "Waiting for the GPU, which another flow holds. If there is no such flow: "
                f"prefect global-concurrency-limit update {name} --active-slots 0"
            )
            while not (_looks_free(name) and _acquired(name, held)):
                time.sleep(_POLL_SECONDS)
                check()
        yield


def _looks_free(name: str) -> bool:
    """Return whether the GPU slot looks free; a failed acquire is logged as an error."""
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(name)
    return limit.active_slots < limit.limit


def _acquired(name: str, held: contextlib.ExitStack) -> bool:
    """Try to acquire the GPU until `held` is closed; return whether it succeeded."""
    # Without `strict` a deleted limit would not be enforced. A failed lease renewal is tolerated: a server that is
    # down for a minute must not cost hours of training. A timeout here could leave the GPU to nobody: the server
    # may grant a slot that is no longer waited for.
    slot = concurrency(
        name, max_retries=0, lease_duration=_LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False
    )
    try:
        held.enter_context(slot)
    except ConcurrencySlotAcquisitionError as error:
        cause = error.__cause__
        if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == httpx.codes.LOCKED:
            return False  # Another flow was faster.
        raise
    return True


def _limit() -> str:
    """Return the name of the concurrency limit for this machine's GPU; create it, with one slot, if missing."""
    name = f"gpu-{socket.gethostname()}"
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return name


def _kind(stage: str) -> str:
    return stage.partition("@")[0]
