"""Prefect flows that run the graph of dvc.yaml. They use DVC's commands and know nothing about the stages' code."""

import os
import sys

# Prefect reads these on its first import, so they are set before any flow is imported; the user's settings
# win. No telemetry is sent, and the temporary server may start slowly on a busy machine.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# The holders of a limit must survive a killed server, or their slots are never released.
os.environ.setdefault("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "prefect.server.concurrency.lease_storage.filesystem")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

try:
    from prefect import context as context
# What is no TOML or no valid value in the user's profile or environment: both are errors of this kind.
except ValueError as error:
    said = " ".join(str(error).split())
    sys.exit(f"flow: Prefect's settings cannot be used ({said}); correct its profiles.toml or the PREFECT_ variables")
