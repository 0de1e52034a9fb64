#!/usr/bin/env python3
"""An OTLP gRPC receiver that writes what it is sent as JSON, one line a data point or span.

It is built on the gRPC services of PyPI's opentelemetry-proto, not on kymo's code, so that metric names, units,
values and span errors are checked by somebody else's reading of the protocol:

    python3 -m venv VENV && VENV/bin/pip install grpcio opentelemetry-proto
    VENV/bin/python tests/clients/otlp_receiver.py --port 0 --out otlp.jsonl --seconds 60

The first line on stdout is the port, once it listens (on 127.0.0.1 only). It ends after --seconds, or at SIGTERM or
SIGINT, and then prints how many lines it wrote. Every line is complete when it is seen: --out can be read meanwhile.

A metric's line:
    {"signal": "metric", "name", "unit", "description", "shape": "counter" | "up_down_counter" | "gauge",
     "temporality": "cumulative" | "delta" | null, "value", "attributes": {}, "start_unix_nano", "time_unix_nano",
     "scope", "resource": {}}
A span's line:
    {"signal": "span", "name", "trace_id", "span_id", "parent_span_id", "status": "unset" | "ok" | "error",
     "status_message", "attributes": {}, "events": [{"name", "attributes": {}}], "dropped_attributes",
     "dropped_events", "start_unix_nano", "end_unix_nano", "scope", "resource": {}}
"""

import argparse
import json
import signal
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.metrics.v1 import metrics_pb2

TEMPORALITIES = {
    metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE: "cumulative",
    metrics_pb2.AGGREGATION_TEMPORALITY_DELTA: "delta",
}
STATUSES = ["unset", "ok", "error"]
STOP_GRACE_SECONDS = 2


class Lines:
    """The file of JSON lines, written by one thread at a time."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.count = 0

    def write(self, rows):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with self.lock:
            self.file.write(text)
            self.file.flush()
            self.count += text.count("\n")


def plain(value):
    """An AnyValue as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else None


def attributes(pairs):
    return {pair.key: plain(pair.value) for pair in pairs}


def shape(metric):
    """What kind of instrument a metric is from, its temporality, and its data points."""
    kind = metric.WhichOneof("data")
    if kind == "gauge":
        return "gauge", None, metric.gauge.data_points
    if kind == "sum":
        name = "counter" if metric.sum.is_monotonic else "up_down_counter"
        return name, TEMPORALITIES.get(metric.sum.aggregation_temporality), metric.sum.data_points
    return kind, None, []


def metric_rows(request):
    for resource_metrics in request.resource_metrics:
        resource = attributes(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                shape_name, temporality, points = shape(metric)
                for point in points:
                    kind = point.WhichOneof("value")
                    yield {
                        "signal": "metric",
                        "name": metric.name,
                        "unit": metric.unit,
                        "description": metric.description,
                        "shape": shape_name,
                        "temporality": temporality,
                        "value": getattr(point, kind) if kind else None,
                        "attributes": attributes(point.attributes),
                        "start_unix_nano": point.start_time_unix_nano,
                        "time_unix_nano": point.time_unix_nano,
                        "scope": scope_metrics.scope.name,
                        "resource": resource,
                    }


def span_rows(request):
    for resource_spans in request.resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {
                    "signal": "span",
                    "name": span.name,
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_span_id": span.parent_span_id.hex(),
                    "status": STATUSES[span.status.code],
                    "status_message": span.status.message,
                    "attributes": attributes(span.attributes),
                    "events": [{"name": e.name, "attributes": attributes(e.attributes)} for e in span.events],
                    "dropped_attributes": span.dropped_attributes_count,
                    "dropped_events": span.dropped_events_count,
                    "start_unix_nano": span.start_time_unix_nano,
                    "end_unix_nano": span.end_time_unix_nano,
                    "scope": scope_spans.scope.name,
                    "resource": resource,
                }


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, lines):
        self.lines = lines

    def Export(self, request, context):
        self.lines.write(metric_rows(request))
        return metrics_service_pb2.ExportMetricsServiceResponse()


class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, lines):
        self.lines = lines

    def Export(self, request, context):
        self.lines.write(span_rows(request))
        return trace_service_pb2.ExportTraceServiceResponse()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--out", required=True, help="file of JSON lines, written anew")
    parser.add_argument("--seconds", type=float, required=True, help="end after this time")
    arguments = parser.parse_args()

    lines = Lines(arguments.out)
    # Without SO_REUSEPORT a second receiver on one port fails instead of taking half of what is sent.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(lines), server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(lines), server)
    port = server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    server.start()
    print(port, flush=True)

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait(arguments.seconds)
    server.stop(STOP_GRACE_SECONDS).wait()
    print(f"{lines.count} lines in {arguments.out}", flush=True)


if __name__ == "__main__":
    main()
