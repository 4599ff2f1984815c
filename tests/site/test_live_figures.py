"""The figures that move, alone in a real browser: their numbers are those of `dmf_utils`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmf_utils import (
    MatrixCompletion,
    Record,
    Settings,
    balanced_factors,
    gradient_flow,
    schatten_norm,
    singular_values,
)

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_interactive"
N_ROWS = 24
MOST_SECONDS = 60


def set_sliders(page: Any, **values: float) -> None:
    for name, value in values.items():
        page.locator(f"input[name={name}]").fill(str(value))


# In the page: remember every picture of a run, and how it began.
LISTEN = """() => {
    window.pictures = [];
    document.querySelector("section").addEventListener("picture", ({detail}) => {
        if (detail.history.length === 1) {
            window.problem = detail.problem;
            pictures.length = 0;
        }
        const {time, values, error} = detail.history.at(-1);
        pictures.push({time, values, error, at: performance.now()});
    });
}"""
PROBLEM = """() => JSON.stringify({
    truth: [...problem.truth], mask: [...problem.mask],
    factors: problem.factors.map((factor) => [...factor]), pictures,
})"""


def play(page: Any, **values: float) -> dict[str, Any]:
    """What a run from these sliders began with, and its pictures, until the entries are fitted."""
    page.evaluate(LISTEN)
    set_sliders(page, **values)
    page.wait_for_function("() => window.pictures.length === 1")
    page.get_by_role("button", name="Play").click()
    over = "() => pictures.length > 1 && document.body.innerText.includes('entries are fitted')"
    page.wait_for_function(over, timeout=1000 * MOST_SECONDS)
    return json.loads(page.evaluate(PROBLEM))


def passing(times: np.ndarray, values: np.ndarray, level: float) -> float:
    """When the values first pass the level, on the straight line between two moments."""
    after = int(np.argmax(values >= level))
    assert after > 0
    share = (level - values[after - 1]) / (values[after] - values[after - 1])
    return float(times[after - 1] + share * (times[after] - times[after - 1]))


@pytest.mark.parametrize(
    ("depth", "power", "share", "seed"),
    [(2, -3, 0.4, 1), (3, -3, 0.4, 1), (3, -4, 0.35, 5), (4, -2, 0.5, 2)],
)
def test_values_are_learned_when_gradient_flow_learns_them(
    open_alone: Any, depth: int, power: float, share: float, seed: int
) -> None:
    page = open_alone("completion")
    run = play(page, depth=depth, size=power, share=share, seed=seed)
    page.close()
    truth = torch.tensor(run["truth"], dtype=torch.float64).view(N_ROWS, N_ROWS)
    mask = torch.tensor(run["mask"]).view(N_ROWS, N_ROWS) == 1
    factors = [
        torch.tensor(factor, dtype=torch.float64).view(N_ROWS, N_ROWS) for factor in run["factors"]
    ]
    problem = MatrixCompletion(mask, truth, truth)
    assert problem.n_observed == round(share * N_ROWS**2)
    assert float(truth.square().mean()) == pytest.approx(1)

    seen_times = np.array([picture["time"] for picture in run["pictures"]])
    seen = np.array([picture["values"][:2] for picture in run["pictures"]])
    end = seen_times[-1]
    flow = gradient_flow(
        problem,
        start=factors,
        until_loss=None,
        until_time=end,
        record=Record(np.linspace(0, end, 4000), singular_values=2),
        settings=Settings(tolerance=1e-8),
    )
    aims = singular_values(truth)[:2]
    for r in range(2):
        for part in (0.25, 0.5):
            level = part * float(aims[r])
            exact = passing(flow.times.numpy(), flow.singular_values[:, r].numpy(), level)
            assert passing(seen_times, seen[:, r], level) == pytest.approx(exact, rel=0.01)
    last = run["pictures"][-1]
    assert last["values"][:2] == pytest.approx(singular_values(flow.product)[:2].tolist(), rel=1e-3)
    assert last["error"] == pytest.approx(float(problem.error(flow.product)), rel=0.02)


def test_depth_3_shows_at_least_20_pictures_a_second(open_alone: Any) -> None:
    page = open_alone("completion")
    pictures = play(page, depth=3, size=-3, share=0.4, seed=1)["pictures"]
    page.close()
    seconds = (pictures[-1]["at"] - pictures[1]["at"]) / 1000
    assert (len(pictures) - 2) / seconds >= 20


def test_pause_and_step(open_alone: Any) -> None:
    page = open_alone("completion")
    page.evaluate(LISTEN)
    set_sliders(page, depth=2, seed=3)
    page.wait_for_function("() => window.pictures.length === 1")
    step = page.get_by_role("button", name="Step")
    for count in (2, 3):
        step.click()
        page.wait_for_function(f"() => window.pictures.length === {count}")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => window.pictures.length > 6")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(200)
    stopped = page.evaluate("() => window.pictures.length")
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.pictures.length") == stopped
    times = page.evaluate("() => window.pictures.map(({time}) => time)")
    assert times == sorted(set(times))
    page.close()


def test_reduced_motion_shows_the_end_and_not_the_way(open_alone: Any) -> None:
    page = open_alone("completion", reduced_motion="reduce")
    page.evaluate(
        """() => {
            window.drawn = 0;
            const svg = document.querySelector("svg g");
            new MutationObserver(() => { drawn += 1; }).observe(svg, {childList: true});
            document.querySelector("section").addEventListener("picture", ({detail}) => {
                if (detail.history.length === 2) drawn = 0;
            });
        }"""
    )
    pictures = play(page, depth=2, size=-2, share=0.6, seed=1)["pictures"]
    page.wait_for_timeout(100)
    assert len(pictures) > 3
    assert page.evaluate("() => window.drawn") == 1
    assert "fitted" in page.locator(".result").last.inner_text()
    page.close()


def test_singular_values_of_the_page_are_those_of_torch(open_alone: Any) -> None:
    page = open_alone("completion")
    rng = np.random.default_rng(0)
    for W in (rng.standard_normal((6, 6)), np.outer(rng.standard_normal(5), np.ones(5)), np.eye(3)):
        found = page.evaluate(
            "([W, n]) => dmfFlow.singularValues(Float64Array.from(W), n)",
            [W.ravel().tolist(), len(W)],
        )
        expected = np.linalg.svd(W, compute_uv=False)
        assert found == pytest.approx(expected.tolist(), abs=1e-12 * expected[0])
    page.close()


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("epsilon", [-1.0, -0.3, 0.0, 0.8])
def test_the_segment_of_proposition_1(open_alone: Any, p: float, epsilon: float) -> None:
    page = open_alone("escape")
    set_sliders(page, p=p, epsilon=epsilon)
    norms = [
        float(schatten_norm(torch.tensor([[1, e], [e, 1]], dtype=torch.float64), p))
        for e in (epsilon, 0.0)
    ]
    change = 100 * (norms[0] / norms[1] - 1)
    text = page.locator(".result").first.inner_text()
    page.close()
    if abs(change) < 0.05:
        assert "as large as" in text
    else:
        assert f"{abs(change):.1f} % {'smaller' if change < 0 else 'larger'} than" in text
    assert f"Rank here: {1 if abs(epsilon) == 1 else 2}" in text


@pytest.mark.parametrize(
    ("depth", "alpha_power", "noise_power"),
    [(2, -1.4, -3), (3, -1.0, -6), (3, -1.4, -6), (4, -1.0, -4)],
)
def test_the_instability_ends_where_gradient_flow_ends(
    open_alone: Any, depth: int, alpha_power: float, noise_power: float
) -> None:
    page = open_alone("instability")
    set_sliders(page, depth=depth, alpha=alpha_power, noise=noise_power)
    page.wait_for_timeout(300)
    title = page.locator("svg title").first.text_content()
    page.close()
    shown = float(title.rsplit("W₁₂ = ", 1)[1].removesuffix("."))
    alpha, noise = 10**alpha_power, 10**noise_power
    ones = torch.ones(2, 2, dtype=torch.float64)
    W0 = alpha**depth * (torch.eye(2, dtype=torch.float64) * (1 - noise) + noise * ones)
    observed = torch.eye(2) == 1
    values = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    flow = gradient_flow(
        MatrixCompletion(observed, values, reduction="half_sum"),
        start=balanced_factors(W0, depth),
        until_loss=1e-10,
        settings=Settings(tolerance=1e-9),
    )
    exact = float(flow.product[0, 1])
    assert shown == pytest.approx(exact, rel=0.06)  # it shows two digits
    assert abs(exact) <= math.sqrt(2) + 1e-6


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.js")))
def test_each_script_is_plain_text_that_asks_for_nothing(name: str) -> None:
    source = (FOLDER / f"{name}.js").read_text(encoding="utf-8")
    for word in ("http:", "https:", "fetch(", "import(", "XMLHttpRequest", "eval("):
        assert word not in source.replace("http://www.w3.org/2000/svg", "")
