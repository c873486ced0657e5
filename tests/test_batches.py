"""The best batch size is remembered per machine, device, precision, network and input size, and runs use it."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest

from backbones import registry
from extract import batches
from extract.batches import remember_batch, remembered_batch
from extract.bench.networks import Speed, fittest
from extract.grid import Grid
from extract.lane.models import GPU_BATCHES, batch_of
from extract.plan import Feature


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "extract" / "batches.json"


def resnet18() -> Feature:
    backbone = registry.get("resnet18")
    return Feature(backbone, backbone.views, Grid(), "random:0")


def test_nothing_is_known_of_a_new_machine():
    feature = resnet18()
    assert batch_of(feature, "cpu") == feature.backbone.batch
    assert batch_of(feature, "cuda:1") == feature.backbone.batch * GPU_BATCHES


def test_what_was_found_is_used_for_that_device_precision_and_size_only():
    feature = resnet18()
    remember_batch("resnet18", feature.views, "cpu", "float32", 5)
    remember_batch("resnet18", feature.views, "cuda:0", "float32", 96)
    assert batch_of(feature, "cpu") == 5
    assert batch_of(feature, "cuda:1") == 96
    assert batch_of(replace(feature, precision="bfloat16"), "cpu") == feature.backbone.batch
    larger = replace(feature.views[0], resize=336, crop=336)
    assert batch_of(replace(feature, views=(larger,)), "cpu") == feature.backbone.batch
    assert remembered_batch("resnet34", feature.views, "cpu", "float32") is None


def test_another_machine_on_the_same_disk_has_its_own(monkeypatch):
    remember_batch("resnet18", resnet18().views, "cpu", "float32", 5)
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert remembered_batch("resnet18", resnet18().views, "cpu", "float32") is None


@pytest.mark.parametrize("content", ["", "[]", '{"x', "null"])
def test_a_damaged_memory_is_no_memory(cache, content):
    cache.parent.mkdir()
    cache.write_text(content)
    assert batch_of(resnet18(), "cpu") == resnet18().backbone.batch
    remember_batch("resnet18", resnet18().views, "cpu", "float32", 3)
    assert batch_of(resnet18(), "cpu") == 3


@pytest.mark.parametrize("value", [0, -1, "8", None, 2.5])
def test_a_nonsense_entry_is_passed_over(value, monkeypatch):
    monkeypatch.setattr(
        batches, "_read", lambda: {batches._entry("resnet18", resnet18().views, "cpu", "float32"): value}
    )
    assert remembered_batch("resnet18", resnet18().views, "cpu", "float32") is None


def test_a_cache_that_cannot_be_written_costs_nothing(cache):
    cache.parent.write_text("a file where the folder should be")
    remember_batch("resnet18", resnet18().views, "cpu", "float32", 3)
    assert batch_of(resnet18(), "cpu") == resnet18().backbone.batch


def test_the_fastest_batch_wins_if_it_is_clearly_faster_and_its_rows_are_independent():
    slow, declared, fast = Speed(1, 10.0, True), Speed(8, 8.0, True), Speed(16, 7.9, True)
    assert fittest([slow, declared, fast], declared=8) == declared
    assert fittest([slow, declared, replace(fast, ms_per_row=6.0)], declared=8).batch == 16
    assert fittest([slow, declared, replace(fast, ms_per_row=6.0, independent=False)], declared=8) == declared
    assert fittest([slow, fast], declared=8) == fast
