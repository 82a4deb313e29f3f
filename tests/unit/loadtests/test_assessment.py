"""Objectives against what was measured."""

from __future__ import annotations

from loadtests.assessment import assess
from loadtests.result import Result, Usage, Verdict
from loadtests.scenario import Scenario
from tests.load_results import result_of

_STEPS = {"calm": 200.0, "storm": 800.0}


def _assessed(result: Result, **objective: str) -> Verdict:
    scenario = Scenario.model_validate(
        {
            "title": "t",
            "about": "a",
            "traffic": [{"name": "decisions"}],
            "phase": [{"name": name, "seconds": 5, "per_s": rate} for name, rate in _STEPS.items()],
            "objective": [{"name": "o", "phase": "storm", **objective}],
        }
    )
    (verdict,) = assess(scenario, result.stretches, result.usage)
    return verdict


def test_an_objective_that_holds_is_passed_another_failed() -> None:
    result = result_of(_STEPS)
    assert _assessed(result, measure="answered_p99_ms", bound="<= 50").verdict == "passed"
    failed = _assessed(result, measure="answered_p99_ms", bound="<= 1")
    assert failed.verdict == "failed"
    assert 1 < failed.value < 50


def test_what_was_refused_fails_the_strict_percentile() -> None:
    result = result_of(_STEPS, refused_share=0.05)
    assert _assessed(result, measure="p99_ms", bound="<= 50").value == float("inf")
    assert _assessed(result, measure="p99_ms", bound="<= 50").verdict == "failed"


def test_a_void_stretch_proves_nothing_not_even_failure() -> None:
    verdict = _assessed(result_of(_STEPS, lag_ms=20.0), measure="answered_p99_ms", bound="<= 1")
    assert verdict.verdict == "void"
    assert "could not keep up" in verdict.why


def test_a_measure_of_what_did_not_happen_is_void() -> None:
    verdict = _assessed(result_of(_STEPS), measure="refusal_p99_ms", bound="<= 5")
    assert (verdict.verdict, verdict.why) == ("void", "nothing of the kind was seen")


def test_a_percentile_of_too_few_requests_is_void() -> None:
    verdict = _assessed(result_of({"calm": 10.0, "storm": 15.0}), measure="p99_ms", bound="<= 50")
    assert (verdict.verdict, verdict.why) == ("void", "too few requests to say")


def test_goodput_is_held_against_the_best_stretch() -> None:
    result = result_of(_STEPS)
    assert _assessed(result, measure="goodput_of_peak", bound=">= 0.9").value == 1.0
    calm = _assessed(result, measure="goodput_of_peak", bound=">= 0.9", phase="calm")
    assert calm.verdict == "failed"
    assert abs(calm.value - 0.25) < 0.01


def test_growth_is_from_the_first_to_the_last_fifth_of_the_stretch() -> None:
    at_s = [5.0 + place * 0.5 for place in range(10)]
    grown = Usage(process="serving", at_s=at_s, cores=[0.1] * 10, rss_mib=[100.0 + 10 * place for place in range(10)])
    result = result_of(_STEPS).model_copy(update={"usage": [grown]})
    verdict = _assessed(result, measure="rss_growth_mib", bound="<= 30", process="serving")
    assert (verdict.value, verdict.verdict, verdict.subject) == (80.0, "failed", "serving")
    assert _assessed(result, measure="rss_growth_mib", bound="<= 30", process="ghost").verdict == "void"


def test_of_replicas_that_counts_which_grew_most() -> None:
    at_s = [5.0 + place * 0.5 for place in range(10)]
    usage = [
        Usage(process=f"serving-{number}", at_s=at_s, cores=[0.1] * 10, rss_mib=[by * place for place in range(10)])
        for number, by in ((1, 1.0), (2, 5.0), (3, -10.0))
    ]
    result = result_of(_STEPS).model_copy(update={"usage": usage})
    assert _assessed(result, measure="rss_growth_mib", bound="<= 30", process="serving").value == 40.0


def test_the_whole_is_failed_by_one_and_void_by_one() -> None:
    result = result_of(_STEPS)
    one = result.objectives[0]

    def with_verdicts(*verdicts: str) -> str:
        objectives = [one.model_copy(update={"verdict": verdict}) for verdict in verdicts]
        return result.model_copy(update={"objectives": objectives}).verdict

    assert with_verdicts("passed", "passed") == "passed"
    assert with_verdicts("passed", "void") == "void"
    assert with_verdicts("void", "failed", "passed") == "failed"
