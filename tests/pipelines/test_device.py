"""Which GPUs a process may use, and how busy it is."""

import time

import pytest

from pipelines import device


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("", []), ("-1", []), ("0", ["0"]), ("2, 0", ["2", "0"]), ("0,-1,1", ["0"]), ("GPU-3f2a", ["GPU-3f2a"])],
)
def test_visible_gpus_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.gpus() == gpus


def test_without_a_choice_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device.gpus() == [str(index) for index in range(len(device.gpus()))]


def test_the_meter_reads_this_process_since_the_last_reading() -> None:
    meter, began = device.Meter(None).reader(), time.monotonic()
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    busy, passed = meter.read(), time.monotonic() - began
    time.sleep(0.5)
    idle = meter.read()
    use, memory = "system/process_cpu_utilization_percentage", "system/process_memory_usage_megabytes"
    assert set(busy) == {use, memory}
    assert busy[use] == pytest.approx(100 * 0.5 / passed, rel=0.5)  # whatever else this machine does
    assert idle[use] < busy[use] / 2
    assert 20 < busy[memory] < 100_000
