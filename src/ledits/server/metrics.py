"""What Prometheus may know of the server: counts and seconds, nothing of anybody's pictures."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server; a registry of its own, so that two servers in one process don't meet."""

    def __init__(self) -> None:
        disable_created_metrics()  # a second series for each, of when it was first counted
        self.registry = CollectorRegistry()
        self.requests = Counter("ledits_requests", "Answers by status code.", ["status"], registry=self.registry)
        self.jobs = Counter("ledits_jobs", "Jobs by kind and outcome.", ["kind", "outcome"], registry=self.registry)
        self.evaluations = Counter("ledits_network_evaluations", "Network evaluations.", registry=self.registry)
        self.waiting = Gauge("ledits_jobs_waiting", "Jobs that wait for the device.", registry=self.registry)
        self.waited = Histogram(
            "ledits_waited_seconds", "Wait before a job began.", buckets=_SECONDS, registry=self.registry
        )
        self.seconds = Histogram(
            "ledits_job_seconds", "Time of a job on the device.", ["kind"], buckets=_SECONDS, registry=self.registry
        )
        self.store_bytes = Gauge("ledits_store_bytes", "Bytes of kept inversions on disk.", registry=self.registry)
        self.inversions = Gauge("ledits_store_inversions", "Kept inversions.", registry=self.registry)

    def page(self) -> Response:
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)
