"""Prefect flows that run the graph of dvc.yaml. They know DVC's commands, nothing of the stages' insides."""

import os

# Prefect reads these when it is first imported, so they stand before every import of a flow; what the
# user has set wins. Nothing phones home, and the temporary server may start slowly on a busy machine.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# Who holds a limit must outlive a server that is killed, or what it holds is never given back.
os.environ.setdefault("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "prefect.server.concurrency.lease_storage.filesystem")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
