"""Study files: valid contents, and one-line errors that name the key."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.tuning.space import check_space
from qcanet_monai.tuning.study import Domain, Study
from qcanet_monai.tuning.study_file import read_study, study_path

HPO = Path(__file__).parents[2] / "hpo"
SHIPPED = sorted(path.stem for path in HPO.glob("*.yaml"))
OPTIMIZER = {"choices": ["sgd", "adam", "adamw"]}
MINIMAL = {"bundle": "nsn", "space": {"depth": {"low": 1, "high": 3}}}


def study(**keys) -> Study:
    return Study.model_validate({**MINIMAL, **keys})


@pytest.fixture
def refusal(tmp_path):
    def told(**keys) -> str:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**MINIMAL, **keys}, sort_keys=False), encoding="utf-8")
        with pytest.raises(StudyError) as caught:
            read_study(path)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{path}: ")
        return message.removeprefix(f"{path}: ")

    return told


def test_what_a_study_does_not_say_has_a_default():
    least = study()
    assert (least.trials, least.epochs, least.hours, least.failures) == (60, 27, None, 3)
    assert (least.sampler.name, least.scheduler.name, least.resources.cpu) == ("tpe", "asha", 2)
    assert least.data is least.max_concurrent is least.max_parameters is None
    assert not least.cost_objective


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"trails": 3}, "trails, did you mean trials?"),
        ({"space": {"depth": {"low": 1, "high": 3, "lag": True}}}, "space.depth.lag, did you mean log?"),
        ({"space": {"depth": {"choice": [1, 2]}}}, "space.depth.choice, did you mean choices?"),
        ({"data": {"embryos": 3, "sede": 1}}, "data.sede, did you mean seed?"),
        ({"resources": {"gpus": 1}}, "resources.gpus, did you mean gpu?"),
        ({"sampler": {"sede": 1}}, "sampler.sede, did you mean seed?"),
        ({"scheduler": {"xyz": 1}}, "scheduler.xyz: remove it"),
    ],
)
def test_an_unknown_key_is_named_with_its_place(refusal, keys, named):
    assert refusal(**keys) == f"unknown key {named}"


def test_an_unknown_key_of_one_of_several_domains_is_named(refusal):
    variants = [{"when": {"optimizer": "sgd"}, "low": 1, "hihg": 2}]
    assert refusal(space={"optimizer": OPTIMIZER, "momentum": variants}) == (
        "unknown key space.momentum.0.hihg, did you mean high?"
    )


@pytest.mark.parametrize("key", MINIMAL)
def test_a_missing_key_is_named(tmp_path, key):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != key}), encoding="utf-8")
    with pytest.raises(StudyError, match=f"study.yaml: {key}: Field required"):
        read_study(path)


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        ({}, "give either choices or low and high"),
        ({"choices": [1], "low": 1, "high": 2}, "give either choices or low and high"),
        ({"choices": [1], "high": 2}, "give either choices or low and high"),
        ({"choices": [1, 2], "log": True}, "log and step belong to low and high, not to choices"),
        ({"choices": [1, 2], "step": 1}, "log and step belong to low and high, not to choices"),
        ({"low": 1}, "expected low <= high, got 1 and None"),
        ({"high": 1}, "expected low <= high, got None and 1"),
        ({"low": 3, "high": 1}, "expected low <= high, got 3 and 1"),
        ({"low": 0, "high": 1.0, "log": True}, "expected low > 0 and no step with log"),
        ({"low": -1.0, "high": 1.0, "log": True}, "expected low > 0 and no step with log"),
        ({"low": 1, "high": 8, "log": True, "step": 2}, "expected low > 0 and no step with log"),
    ],
)
def test_a_domain_is_either_choices_or_a_range(refusal, domain, reason):
    assert refusal(space={"depth": domain}) == f"space.depth: {reason}"


@pytest.mark.parametrize(
    ("domain", "place"),
    [
        ({"choices": []}, "space.depth.choices"),
        ({"choices": [[3, 5]]}, "space.depth.choices"),
        ({"low": 1, "high": 8, "step": 0}, "space.depth.step"),
        ({"low": 1, "high": 8, "step": -0.5}, "space.depth.step"),
        ({"low": float("nan"), "high": 8}, "space.depth.low"),
        ({"low": 1.0, "high": float("inf")}, "space.depth.high"),
    ],
)
def test_an_impossible_value_in_a_domain_is_named_with_its_place(refusal, domain, place):
    assert refusal(space={"depth": domain}).startswith(place)


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"trials": 0}, "trials"),
        ({"epochs": 0}, "epochs"),
        ({"hours": 0}, "hours"),
        ({"space": {}}, "space"),
        ({"sampler": {"name": "grid"}}, "sampler.name"),
        ({"scheduler": {"reduction_factor": 1}}, "scheduler.reduction_factor"),
        ({"resources": {"cpu": 0}}, "resources.cpu"),
        ({"data": {"embryos": 0}}, "data.embryos"),
        ({"data": {"embryos": 3, "spacing": [1.0, 2.0]}}, "data.spacing"),
    ],
)
def test_an_impossible_value_is_named_with_its_place(refusal, keys, place):
    assert refusal(**keys).startswith(f"{place}")


def test_a_range_is_whole_if_its_ends_and_step_are():
    assert Domain(low=1, high=4).whole
    assert Domain(low=1, high=4, step=3).whole
    assert not Domain(low=1, high=4.0).whole
    assert not Domain(low=0, high=1, step=0.5).whole
    assert not Domain(choices=[1, 2]).whole


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        ({"choices": [3, 5]}, [3, 5], [4, "3"]),
        ({"choices": ["sgd", "adam"]}, ["sgd"], ["adamw", 0]),
        ({"low": 1, "high": 3}, [1, 2, 3], [0, 4, 2.5, "2", True]),
        ({"low": 0.5, "high": 2.0}, [0.5, 1, 1.7, 2.0], [0.49, 2.01, "1", True]),
        ({"low": 2, "high": 8, "step": 2}, [2, 4, 8], [1, 3, 10]),
    ],
)
def test_a_domain_holds_what_it_can_propose(domain, inside, outside):
    assert [v for v in inside + outside if Domain(**domain).holds(v)] == inside


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        ({"choices": ["b", "a"]}, ["b", "a"]),
        ({"low": 1, "high": 3}, [1, 2, 3]),
        ({"low": 2, "high": 9, "step": 3}, [2, 5, 8]),
        ({"low": 2, "high": 2}, [2]),
        ({"low": 0.1, "high": 0.9, "step": 0.2}, [0.1, 0.9]),
        ({"low": 1e-4, "high": 0.1, "log": True}, [1e-4, 0.1]),
    ],
)
def test_a_domains_values_are_its_choices_its_whole_numbers_or_its_ends(domain, values):
    assert Domain(**domain).values() == values


def test_a_condition_is_one_value_or_several_and_all_conditions_must_hold():
    one = Domain(choices=[1], when={"optimizer": "sgd"})
    both = Domain(choices=[1], when={"optimizer": ["adam", "adamw"], "depth": 3})
    assert Domain(choices=[1]).applies({})
    assert one.applies({"optimizer": "sgd", "depth": 1})
    assert not one.applies({"optimizer": "adam"})
    assert not one.applies({})
    assert both.applies({"optimizer": "adamw", "depth": 3})
    assert not both.applies({"optimizer": "adamw", "depth": 2})
    assert not both.applies({"optimizer": "adamw"})


def test_a_condition_looks_back(refusal):
    momentum = {"when": {"optimizer": "sgd"}, "low": 0.0, "high": 0.9}
    assert study(space={"optimizer": OPTIMIZER, "momentum": momentum})
    told = "momentum needs optimizer above it in space"
    assert refusal(space={"momentum": momentum, "optimizer": OPTIMIZER}) == told
    assert refusal(space={"momentum": momentum}) == told


def test_a_condition_that_no_value_fulfils_is_refused(refusal):
    momentum = {"when": {"optimizer": "sdg"}, "low": 0.0, "high": 0.9}
    told = refusal(space={"optimizer": OPTIMIZER, "momentum": momentum})
    assert "momentum" in told
    assert "sdg" in told


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"optimizer": "sgd"}, {"optimizer": "sgd"}),
        ({"optimizer": "sgd"}, {"optimizer": ["sgd"]}),
        ({"optimizer": ["adam", "sgd"]}, {"optimizer": ["sgd", "adam"]}),
        ({"optimizer": ["adam", "sgd"]}, {"optimizer": ["sgd", "adamw"]}),
        ({}, {"optimizer": "sgd"}),
    ],
)
def test_two_domains_of_a_setting_that_apply_at_once_are_refused(refusal, one, other):
    rates = [{"when": one, "low": 0.1, "high": 1.0}, {"when": other, "low": 0.2, "high": 2.0}]
    assert "learning_rate has two domains for" in refusal(
        space={"optimizer": OPTIMIZER, "learning_rate": rates}
    )


def test_a_setting_is_not_searched_and_set_at_once(refusal):
    assert refusal(settings={"depth": 2}) == "depth is in both space and settings: remove one"


def test_the_first_rung_lies_within_the_budget(refusal):
    assert refusal(epochs=9, scheduler={"grace_epochs": 10}) == "expected grace_epochs <= 9, got 10"
    assert study(epochs=9, scheduler={"grace_epochs": 9})
    assert [study(epochs=epochs).first_rung for epochs in (1, 2, 3, 54)] == [1, 2, 3, 3]
    assert study(epochs=9, scheduler={"name": "none", "grace_epochs": 10})


@pytest.fixture
def dependent() -> Study:
    """Patches and depths, the deepest only with large patches; channels by depth."""
    return study(
        space={
            "kernel_size": {"choices": [3, 5]},
            "patch_size": {"choices": [32, 64]},
            "depth": [
                {"when": {"patch_size": 32}, "choices": [2]},
                {"when": {"patch_size": 64}, "low": 3, "high": 4},
            ],
            "channels": {"when": {"depth": 4}, "choices": [4, 8]},
        }
    )


def test_combinations_are_those_that_the_conditions_allow(dependent):
    assert dependent.combinations("depth") == [
        {"patch_size": 32, "depth": 2},
        {"patch_size": 64, "depth": 3},
        {"patch_size": 64, "depth": 4},
    ]


def test_a_setting_whose_condition_fails_is_left_out_of_a_combination(dependent):
    assert dependent.combinations("channels") == [
        {"patch_size": 32, "depth": 2},
        {"patch_size": 64, "depth": 3},
        {"patch_size": 64, "depth": 4, "channels": 4},
        {"patch_size": 64, "depth": 4, "channels": 8},
    ]


def test_settings_that_are_not_searched_combine_to_nothing(dependent):
    assert dependent.combinations() == dependent.combinations("optimizer") == [{}]


def test_a_trial_has_a_process_per_whole_gpu_unless_it_says_how_many():
    def processes(**resources):
        return study(resources=resources).resources.n_processes

    assert (processes(), processes(gpu=0.5), processes(gpu=2)) == (1, 1, 2)
    assert processes(gpu=0, processes=2) == 2


def test_a_study_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        study().trials = 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"bundle: [", "is not valid YAML: while parsing a flow node"),
        (b"a\0b", "is not valid YAML: "),
        (b"\xff\xfe\xfa", "is not valid YAML: "),
        (b"- bundle\n- space\n", "got list"),
        (b"nsn", "got str"),
        (b"", "got NoneType"),
        (b"# nothing\n", "got NoneType"),
    ],
)
def test_a_file_that_is_no_mapping_is_told(tmp_path, content, said):
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        read_study(path)
    message = str(caught.value)
    assert str(path) in message
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_is_known_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_path(name) == HPO / f"{name}.yaml"


def test_a_study_of_ones_own_is_known_by_its_path(tmp_path, monkeypatch):
    own = tmp_path / "own.yaml"
    own.touch()
    monkeypatch.chdir(tmp_path)
    assert study_path(own) == study_path(str(own)) == own
    assert study_path("own.yaml") == Path("own.yaml")


@pytest.mark.parametrize("reference", ["nonsense", "no/such.yaml", "", "smoke.yaml", "clusters"])
def test_a_reference_that_is_no_study_lists_those_that_ship(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as caught:
        study_path(reference)
    assert str(caught.value) == (f"expected a study's file or one of {', '.join(SHIPPED)}, got {reference!r}")


def test_there_are_shipped_studies():
    assert {"nsn", "ndn", "ndn-compact", "smoke"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_can_be_run_on_its_bundle(name):
    shipped = read_study(study_path(name))
    assert shipped.starting_points
    check_space(shipped, Bundle.find(shipped.bundle))
