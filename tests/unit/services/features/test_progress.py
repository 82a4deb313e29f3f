"""What may be called visible, and when."""

from __future__ import annotations

from services.features.progress import ProgressTracker

PARTITION, OTHER = ("t", 0), ("t", 1)


def test_nothing_is_visible_before_the_job_has_told_anything() -> None:
    tracker = ProgressTracker()
    tracker.sampled(100, {PARTITION: 0})
    assert tracker.visible_until_us is None


def test_visible_until_the_newest_moment_whose_records_are_all_processed() -> None:
    tracker = ProgressTracker()
    tracker.sampled(100, {PARTITION: 5, OTHER: 1})
    tracker.sampled(200, {PARTITION: 7, OTHER: 1})
    tracker.sampled(300, {PARTITION: 9, OTHER: 1})
    tracker.processed({PARTITION: 8, OTHER: 1})
    assert tracker.visible_until_us == 200
    assert tracker.backlog == 1
    tracker.processed({PARTITION: 9, OTHER: 1})
    assert tracker.visible_until_us == 300
    assert tracker.backlog == 0


def test_one_partition_behind_holds_everything_back() -> None:
    tracker = ProgressTracker()
    tracker.processed({PARTITION: 50, OTHER: 0})
    tracker.sampled(100, {PARTITION: 5, OTHER: 1})
    assert tracker.visible_until_us is None
    assert tracker.backlog == 1


def test_idle_time_moves_it_on() -> None:
    tracker = ProgressTracker()
    tracker.processed({PARTITION: 5})
    for at_us in (100, 200, 300):
        tracker.sampled(at_us, {PARTITION: 5})
        assert tracker.visible_until_us == at_us


def test_a_partition_unknown_to_the_job_counts_as_unprocessed() -> None:
    tracker = ProgressTracker()
    tracker.processed({PARTITION: 5})
    tracker.sampled(100, {PARTITION: 5, OTHER: 2})
    assert tracker.visible_until_us is None
    assert tracker.backlog == 2


def test_waiting_moments_are_bounded() -> None:
    tracker = ProgressTracker(samples=3)
    for at_us in range(10):
        tracker.sampled(at_us, {PARTITION: at_us})
    tracker.processed({PARTITION: 8})
    assert tracker.visible_until_us == 8
