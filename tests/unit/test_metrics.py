from __future__ import annotations

from typing import Any

from asyncjobs.testing import Clock, Lines
from asyncjobs.worker.metrics import MOST_VALUES, Metrics


def written(metrics: Metrics, log: Lines, *, slots: int = 4, busy: int = 1) -> dict[str, Any]:
    before = len(log.lines)
    metrics.write(slots, busy)
    (line,) = log.lines[before:]
    return line


def test_a_minute_as_cloudwatch_reads_it() -> None:
    clock, log = Clock(1_795_416_232.0), Lines()
    metrics = Metrics(log, stack="demo", now=clock)
    metrics.started(int((clock.now - 2.5) * 1000))
    metrics.started(0)  # nobody knows since when it waited
    metrics.ended("succeeded", 0.25)
    metrics.ended("to", 9.0)
    line = written(metrics, log)
    assert {name: line[name] for name in ("JobsStarted", "JobsSucceeded", "JobsToBeTriedAgain", "JobsFailed")} == {
        "JobsStarted": 2,
        "JobsSucceeded": 1,
        "JobsToBeTriedAgain": 1,
        "JobsFailed": 0,
    }
    assert (line["Duration"], line["QueueAge"], line["Slots"], line["SlotsBusy"]) == ([0.25], [2.5], 4, 1)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"], line["Stack"]) == ("asyncjobs", [["Stack"]], "demo")
    assert line["_aws"]["Timestamp"] == 1_795_416_232_000
    for metric in directive["Metrics"]:
        assert metric["Name"] in line
        assert metric["Unit"] in ("Count", "Seconds")


def test_each_minute_counts_for_itself_and_a_quiet_one_says_nothing() -> None:
    log = Lines()
    metrics = Metrics(log)
    metrics.ended("failed", 1)
    assert written(metrics, log)["JobsFailed"] == 1
    assert written(metrics, log)["JobsFailed"] == 0
    metrics.write(4, 0)
    assert len(log.lines) == 2


def test_no_more_values_than_cloudwatch_takes() -> None:
    log = Lines()
    metrics = Metrics(log)
    for number in range(10 * MOST_VALUES):
        metrics.ended("succeeded", number)
    line = written(metrics, log)
    assert len(line["Duration"]) == MOST_VALUES
    assert line["JobsSucceeded"] == 10 * MOST_VALUES
