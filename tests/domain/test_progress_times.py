"""What a run teaches of durations, and the time that is left."""

from comfy_mcp.domain.events import PromptEnded, PromptInterrupted
from comfy_mcp.domain.graph import Graph, parse_graph
from comfy_mcp.domain.progress import Progress
from tests.domain.progress_events import P, cached, chain, executed, of, start, step

# ---------------------------------------------------------------------- what is learnt


def test_durations_are_observed_per_class_for_nodes_that_ran_to_their_end() -> None:
    progress = of(chain("A", "B", "B", "C"))
    progress.apply(cached("1"), 0)
    progress.apply(start("2"), 100)
    progress.apply(start("3"), 150)
    progress.apply(start("4"), 350)
    assert progress.observed() == {"B": [50, 200]}


def test_a_node_that_runs_in_two_parts_is_observed_as_one() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("2"), 0)
    progress.apply(start("1"), 10)
    progress.apply(start("2"), 30)
    progress.apply(executed("2"), 35)
    assert progress.observed() == {"B": [15], "A": [20]}


def test_a_clock_that_goes_back_gives_no_negative_duration() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 100)
    progress.apply(start("2"), 50)
    assert progress.observed() == {"A": [0]}


def test_a_node_that_was_interrupted_is_not_observed() -> None:
    progress = of(chain("A", "B"))
    progress.apply(start("1"), 0)
    progress.apply(PromptInterrupted(prompt_id=P), 70)
    assert progress.observed() == {}


# ---------------------------------------------------------------------- the time left

PACE, START, COLD = (f"KSampler|m.ckpt|{key}" for key in ("pace", "start", "cold"))


def picture(*, steps: int = 10, side: int = 1000, batch: int = 1) -> Graph:
    """A loader, a latent, a sampler, a decoder: one unit of work for each step of 1000 x 1000."""
    return parse_graph(
        {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.ckpt"}},
            "2": {
                "class_type": "EmptyLatentImage",
                "inputs": {"width": side, "height": side, "batch_size": batch},
            },
            "3": {
                "class_type": "KSampler",
                "inputs": {"model": ["1", 0], "latent_image": ["2", 0], "steps": steps},
            },
            "4": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
            "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0]}},
        }
    )


def run(progress: Progress, *, steps: int, step_ms: int, begins: int = 2_000, decodes: int = 1_000) -> int:
    """All of it: the loader and the sampler's beginning together take `begins`. Returns the end."""
    for number, at in (("1", 0), ("2", begins // 2), ("3", begins // 2)):
        progress.apply(start(number), at)
    now = begins
    for value in range(1, steps + 1):
        now = begins + value * step_ms
        progress.apply(step("3", value, steps), now)
    progress.apply(start("4"), now)
    progress.apply(start("5"), now + decodes)
    progress.apply(PromptEnded(prompt_id=P), now + decodes + 100)
    return now + decodes + 100


def learnt(*runs: Progress) -> dict[str, float]:
    """The mean of each key, as the store keeps it."""
    seen: dict[str, list[float]] = {}
    for each in runs:
        for key, values in each.observed().items():
            seen.setdefault(key, []).extend(values)
    return {key: sum(values) / len(values) for key, values in seen.items()}


def test_a_sampler_teaches_its_pace_and_its_start_apart() -> None:
    progress = of(picture(batch=2))
    run(progress, steps=10, step_ms=300)
    taught = progress.observed()
    assert taught[PACE] == [150]
    assert taught[COLD] == [1_000]
    assert START not in taught
    assert taught["VAEDecode|m.ckpt|2"] == taught["VAEDecode"] == [1_000]


def test_a_run_of_another_size_and_with_other_steps_is_known_from_the_start() -> None:
    first = of(picture())
    run(first, steps=10, step_ms=100)
    twice = of(picture(steps=20, batch=4), learnt(first) | {"VAEDecode|m.ckpt|4": 4_000})
    assert twice.eta_ms(0) == 1_000 + 1 + 1_000 + 20 * 4 * 100 + 4_000 + 100


def test_a_cached_loader_makes_the_start_a_warm_one() -> None:
    known = {PACE: 100.0, START: 50.0, COLD: 9_000.0, "VAEDecode|m.ckpt|1": 500.0, "SaveImage": 100.0}
    known |= {"CheckpointLoaderSimple": 800.0, "EmptyLatentImage": 1.0}
    progress = of(picture(), known)
    assert progress.eta_ms(0) == 800 + 1 + 9_000 + 1_000 + 600
    progress.apply(cached("1", "2"), 0)
    assert progress.eta_ms(0) == 50 + 1_000 + 600
    progress.apply(start("3"), 0)
    progress.apply(step("3", 1, 10), 150)
    progress.apply(step("3", 10, 10), 1_050)
    progress.apply(start("4"), 1_050)
    assert progress.observed()[START] == [50]


def test_another_size_of_a_decoder_is_not_known() -> None:
    first = of(picture())
    run(first, steps=10, step_ms=100)
    assert of(picture(side=2_000), learnt(first)).eta_ms(0) is None


def test_a_first_run_has_a_time_as_soon_as_the_steps_tell_their_pace() -> None:
    progress = of(picture())
    progress.apply(start("1"), 0)
    progress.apply(start("2"), 4_000)
    progress.apply(start("3"), 5_000)
    assert progress.eta_ms(5_000) is None
    progress.apply(step("3", 1, 10), 9_000)
    assert progress.eta_ms(9_000) is None
    progress.apply(step("3", 2, 10), 10_000)
    assert progress.eta_ms(10_000) == 8_000 + 2 * 1_000  # two nodes that weigh a tenth of ten steps each


def test_the_time_left_is_never_less_than_the_present_step_has_taken() -> None:
    progress = of(chain("KSampler"))
    progress.apply(start("1"), 0)
    progress.apply(step("1", 1, 3), 1_000)
    progress.apply(step("1", 2, 3), 2_000)
    assert [progress.eta_ms(at) for at in (2_000, 2_400, 2_900, 60_000)] == [1_000, 600, 900, 58_000]


def test_a_second_pass_counts_its_own_steps() -> None:
    progress = of(chain("KSampler"))
    progress.apply(start("1"), 0)
    for value, at in ((1, 100), (2, 200), (4, 400), (1, 2_000), (2, 3_000)):
        progress.apply(step("1", value, 4), at)
    assert progress.eta_ms(3_000) == 2_000


def test_a_node_that_takes_much_longer_than_ever_has_no_time_left() -> None:
    progress = of(chain("A", "B"), {"A": 300, "B": 700})
    assert progress.eta_ms(0) == 1_000
    progress.apply(start("1"), 0)
    assert progress.eta_ms(100) == 900
    assert progress.eta_ms(400) == 700
    assert progress.eta_ms(5_000) is None


def test_one_unknown_class_among_what_is_left_is_no_evidence() -> None:
    progress = of(chain("New", "B"), {"B": 700})
    assert progress.eta_ms(0) is None
    progress.apply(start("1"), 0)
    assert progress.eta_ms(0) is None
    progress.apply(cached("1"), 0)
    assert progress.eta_ms(0) == 700


def test_too_much_that_was_never_seen_is_no_evidence_either() -> None:
    progress = of(chain("KSampler", *"ABCDEFGH"))
    progress.apply(start("1"), 0)
    progress.apply(step("1", 1, 4), 100)
    progress.apply(step("1", 2, 4), 200)
    assert progress.eta_ms(200) is None
