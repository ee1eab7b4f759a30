"""Search spaces: questions to Optuna, and errors before anything starts."""

import pickle

import optuna
import pytest
from monai.bundle import ConfigParser

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.tuning.space import Space, check_space, settings_of, starting_points
from qcanet_monai.tuning.study import Domain, Study
from qcanet_monai.tuning.trial import network_cost

RATES = {"sgd": (0.01, 1.0), "adam": (1e-4, 1e-2), "adamw": (1e-4, 1e-2)}
SPACE = {
    "depth": {"low": 1, "high": 3},
    "kernel_size": {"low": 1, "high": 5, "step": 2},
    "optimizer": {"choices": ["sgd", "adam", "adamw"]},
    "learning_rate": [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
        {"when": {"optimizer": ["adam", "adamw"]}, "low": 1e-4, "high": 1e-2, "log": True},
    ],
    "momentum": {"when": {"optimizer": "sgd"}, "low": 0.0, "high": 0.9},
    "betas#0": {"when": {"optimizer": ["adam", "adamw"]}, "low": 0.8, "high": 0.9, "step": 0.05},
}


def study(space, **keys) -> Study:
    return Study(bundle="nsn", space=space, **keys)


@pytest.fixture(scope="module")
def proposals() -> list[dict]:
    """Draw 200 trials from a random sampler."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searched = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = Space(study(SPACE))
    return [space(searched.ask()) for _ in range(200)]


def test_only_what_applies_is_asked_for(proposals):
    for params in proposals:
        always = {"depth", "kernel_size", "optimizer"}
        if params["optimizer"] == "sgd":
            assert set(params) == always | {"learning_rate", "momentum"}
        else:
            assert set(params) == always | {"learning_rate", "betas#0"}


def test_every_choice_and_every_whole_number_comes_up(proposals):
    assert {params["optimizer"] for params in proposals} == {"sgd", "adam", "adamw"}
    assert {params["depth"] for params in proposals} == {1, 2, 3}
    assert {params["kernel_size"] for params in proposals} == {1, 3, 5}
    assert all(type(params["depth"]) is int for params in proposals)


def test_each_branch_of_a_setting_keeps_to_its_own_range(proposals):
    for settings in proposals:
        low, high = RATES[settings["optimizer"]]
        assert low <= settings["learning_rate"] <= high


def test_a_logarithmic_range_is_searched_by_orders_of_magnitude(proposals):
    rates = [p["learning_rate"] for p in proposals if p["optimizer"] == "sgd"]
    assert 0.3 < sum(rate < 0.1 for rate in rates) / len(rates) < 0.7


def test_a_step_is_kept(proposals):
    assert {round(p["betas#0"], 6) for p in proposals if "betas#0" in p} == {0.8, 0.85, 0.9}


class Asked:
    """Trial stub that answers with the lowest or first value and records questions."""

    def __init__(self):
        self.questions = []

    def suggest_categorical(self, name, choices):
        self.questions.append((name, choices))
        return choices[0]

    def suggest_int(self, name, low, high, *, step, log):
        self.questions.append((name, int, low, high, step, log))
        return low

    def suggest_float(self, name, low, high, *, step, log):
        self.questions.append((name, float, low, high, step, log))
        return low


def test_optuna_is_asked_for_each_domain_as_it_is_written():
    trial = Asked()
    space = {
        "loss": {"choices": ["dice", "focal"]},
        "depth": {"low": 1, "high": 3},
        "channels": {"low": 4, "high": 64, "log": True},
        "kernel_size": {"low": 1, "high": 5, "step": 2},
        "learning_rate": {"low": 1e-4, "high": 1, "log": True},
        "dropout": {"low": 0.0, "high": 0.5, "step": 0.25},
        "momentum": {"low": 0, "high": 1, "step": 0.5},
    }
    Space(study(space))(trial)
    assert trial.questions == [
        ("loss", ["dice", "focal"]),
        ("depth", int, 1, 3, 1, False),
        ("channels", int, 4, 64, 1, True),
        ("kernel_size", int, 1, 5, 2, False),
        ("learning_rate", float, 1e-4, 1, None, True),
        ("dropout", float, 0.0, 0.5, 0.25, False),
        ("momentum", float, 0, 1, 0.5, False),
    ]


def test_settings_are_a_configuration_without_the_studys_own_keys():
    assert settings_of({"depth": 2, "betas#0": 0.9, "_trial": "001"}) == {"depth": 2, "betas#0": 0.9}


def test_several_domains_are_one_parameter_from_0_to_1():
    middle = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.5}
    space = Space(study(SPACE))
    assert space.parameters(middle) == pytest.approx(
        {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.5}, abs=1e-12
    )
    assert space.parameters({"learning_rate": 1e-4, "optimizer": "adamw"})["learning_rate"] == 0
    assert space.parameters({}) == {}


VARIANTS = [
    {"low": 0.001, "high": 10.0, "log": True},
    {"low": 1, "high": 100, "log": True},
    {"low": 2, "high": 9},
    {"low": 1, "high": 8, "step": 3},
    {"low": 0.1, "high": 0.7, "step": 0.2},
    {"low": -1.5, "high": 2.5},
    {"low": 3.0, "high": 3.0},
    {"choices": ["a", "b", "c"]},
]


@pytest.mark.parametrize("domain", VARIANTS, ids=str)
def test_every_position_has_a_value_that_leads_back_to_it(domain):
    made = Domain.model_validate(domain)
    positions = [i / 100 for i in range(101)]
    values = [made.at(position) for position in positions]
    assert all(made.holds(value) for value in values)
    assert all(made.at(made.position(value)) == pytest.approx(value) for value in values)
    if made.choices is None:
        assert (values[0], values[-1]) == pytest.approx((made.low, made.values()[-1]))
        assert values == sorted(values)
    else:
        assert [values.count(choice) for choice in made.choices] == [34, 33, 34]


def test_every_whole_number_is_as_likely():
    made = Domain(low=1, high=8, step=3)
    assert [[made.at(i / 100) for i in range(100)].count(value) for value in (1, 4, 7)] == [34, 33, 33]


def test_people_see_values_on_one_scale_that_holds_all_ranges():
    point = {"optimizer": "sgd", "learning_rate": 0.5, "depth": 1, "kernel_size": 3, "momentum": 0.2}
    shown = Space(study(SPACE)).shown(point)
    assert shown.params == point
    scale = shown.distributions["learning_rate"]
    assert (scale.low, scale.high, scale.log) == (1e-4, 1.0, True)


def test_people_see_domains_without_a_common_scale_by_their_conditions():
    rates = [
        {"when": {"optimizer": "sgd"}, "choices": [0.1, 1.0]},
        {"when": {"optimizer": ["adam", "adamw"]}, "low": 0.01, "high": 0.1},
    ]
    space = Space(study({"optimizer": SPACE["optimizer"], "learning_rate": rates}))
    for optimizer, name in (("sgd", "sgd"), ("adamw", "adam|adamw")):
        shown = space.shown({"optimizer": optimizer, "learning_rate": 0.1})
        assert shown.params == {"optimizer": optimizer, f"learning_rate[optimizer={name}]": 0.1}


def test_a_starting_point_is_tried_as_it_stands():
    point = {"depth": 2, "kernel_size": 3, "optimizer": "adam", "learning_rate": 0.002, "betas#0": 0.85}
    given = study(SPACE, starting_points=[point])
    searched = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    searched.enqueue_trial(starting_points(given)[0])
    assert Space(given)(searched.ask()) == point


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ({"channels": 4}, "channels is not searched"),
        ({"optimizer": "adam", "momentum": 0.5}, "momentum is not searched under its conditions"),
        ({"momentum": 0.5}, "momentum is not searched under its conditions"),
        ({"depth": 4}, "depth 4 lies outside its domain"),
        ({"depth": 2.5}, "depth 2.5 lies outside its domain"),
        ({"kernel_size": 4}, "kernel_size 4 lies outside its domain"),
        ({"optimizer": "lion"}, "optimizer 'lion' lies outside its domain"),
        ({"optimizer": "adam", "learning_rate": 0.5}, "learning_rate 0.5 lies outside its domain"),
        ({"optimizer": "sgd", "learning_rate": "0.5"}, "learning_rate '0.5' lies outside its domain"),
    ],
)
def test_a_starting_point_outside_of_the_space_is_refused(point, reason):
    with pytest.raises(StudyError) as caught:
        starting_points(study(SPACE, starting_points=[point]))
    assert str(caught.value) == f"starting point {point}: {reason}"


def check(space, **keys) -> None:
    check_space(study(space, **keys), Bundle.find("nsn"))


def refusal(space, **keys) -> str:
    with pytest.raises(StudyError) as caught:
        check(space, **keys)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_space_that_the_bundle_can_be_trained_in_passes():
    check(SPACE, settings={"channels": 4, "patch_size": 32, "betas#1": 0.99, "loss": "dice"})


@pytest.mark.parametrize("key", ["depht", "Depth"])
def test_a_misspelled_key_is_told_with_the_right_one(key):
    assert refusal({key: {"choices": [1]}}).endswith(f"has no setting {key}, did you mean depth?")
    assert refusal({"depth": {"choices": [1]}}, settings={key: 1}).endswith("did you mean depth?")


@pytest.mark.parametrize("key", ["colour", "betas#2", "depth#0", "network_def#chanels"])
def test_a_key_that_the_bundle_lacks_is_named_with_its_knobs(key):
    for message in (
        refusal({key: {"choices": [1]}}),
        refusal({"depth": {"choices": [1]}}, settings={key: 1}),
    ):
        assert f"has no setting {key}: choose from " in message
        knobs = message.partition("choose from ")[2].split(", ")
        assert {"depth", "channels", "learning_rate", "patch_size"} <= set(knobs)


@pytest.mark.parametrize(
    "key", ["bundle_root", "cache_dir", "dataset_dir", "epochs", "output_dir", "target", "val_interval"]
)
def test_a_key_that_the_study_sets_itself_is_refused(key):
    told = f"{key} is set by the study: remove it from space and settings"
    assert refusal({key: {"choices": [1]}}) == told
    assert refusal({"depth": {"choices": [1]}}, settings={key: 1}) == told


def test_a_bad_starting_point_is_refused_before_the_start():
    assert "channels is not searched" in refusal(
        {"depth": {"choices": [1]}}, starting_points=[{"channels": 4}]
    )


@pytest.mark.parametrize(
    ("space", "settings", "depth", "patch"),
    [
        ({"depth": {"low": 1, "high": 6}}, {}, 6, 64),  # the bundle's own patch
        ({"depth": {"choices": [2, 5]}}, {"patch_size": 32}, 5, 32),
        ({"patch_size": {"choices": [32, 36]}}, {}, 3, 36),  # the bundle's own depth
        ({"depth": {"choices": [3, 4]}, "patch_size": {"choices": [16, 32]}}, {}, 4, 16),
        ({"patch_size": {"choices": [16, 32]}, "depth": {"choices": [3, 4]}}, {}, 4, 16),
    ],
)
def test_a_depth_that_is_too_deep_for_its_patch_is_refused(space, settings, depth, patch):
    assert refusal(space, settings=settings).startswith(
        f"depth {depth} is too deep for patch_size {patch}: expected a multiple of {2**depth} of at least "
        f"{2 ** (depth + 1)}"
    )


def test_a_condition_makes_room_for_a_depth():
    check(
        {
            "patch_size": {"choices": [16, 32]},
            "depth": [
                {"when": {"patch_size": 16}, "choices": [3]},
                {"when": {"patch_size": 32}, "choices": [3, 4]},
            ],
        },
        settings={"channels": 2},
    )


def test_under_a_failing_condition_the_settings_depth_counts():
    space = {
        "patch_size": {"choices": [16, 64]},
        "depth": {"when": {"patch_size": 64}, "low": 3, "high": 4},
    }
    check(space, settings={"channels": 2})  # the bundle has 3
    space["patch_size"]["choices"] = [8, 64]
    assert "depth 3 is too deep for patch_size 8" in refusal(space)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("learning_rate", "1e-3"),
        ("betas#0", "0.9"),
        ("channels", "8"),
        ("patch_size", "64"),
        ("patch_size", "1e2"),
        ("depth", "deep"),
    ],
)
def test_a_number_given_as_text_is_told(key, text):
    told = f"expected a number for {key}, got the text {text!r}: write 1.0e-3, not 1e-3"
    assert refusal({key: {"choices": [text]}}) == told


def test_a_setting_given_as_text_is_told_by_its_own_name():
    for key in ("learning_rate", "patch_size"):
        told = refusal({"channels": {"choices": [4]}}, settings={key: "1e-3"})
        assert told.startswith(f"expected a number for {key}, got the text '1e-3'")


@pytest.mark.parametrize(
    ("key", "values", "bad"),
    [
        ("optimizer", ["adam", "nonsense"], "'nonsense' cannot be built: expected an optimizer of sgd"),
        ("loss", ["dice", "nonsense"], "'nonsense' cannot be built: expected a loss of dice"),
        ("schedule", ["nonsense"], "'nonsense' cannot be built: expected a schedule of constant"),
        ("normalisation", ["nonsense"], "'nonsense' cannot be built: expected a normalisation of robust"),
        ("kernel_size", [3, 4], "4 cannot be built: expected an odd kernel_size"),
        ("depth", [1, 0], "0 cannot be built: expected depth to be a whole number of at least 1"),
        ("channels", [4, 0], "0 cannot be built: expected channels to be a whole number of at least 1"),
        ("channels", [4.5], "4.5 cannot be built: expected channels to be a whole number"),
        ("learning_rate", [-1.0], "-1.0 cannot be built: "),
    ],
)
def test_a_choice_that_cannot_be_built_is_told(key, values, bad):
    assert refusal({key: {"choices": values}}).startswith(f"{key} {bad}")


@pytest.mark.parametrize(
    ("key", "domain", "bad"),
    [
        ("kernel_size", {"low": 3, "high": 5}, 4),  # between the ends
        ("channels", {"low": 0, "high": 8}, 0),
        ("depth", {"low": 1.0, "high": 2.5}, 1.0),  # not an integer
        ("learning_rate", {"low": -0.1, "high": 0.1}, -0.1),
    ],
)
def test_a_range_that_holds_what_cannot_be_built_is_told(key, domain, bad):
    assert refusal({key: domain}).startswith(f"{key} {bad} cannot be built: ")


def test_a_setting_that_cannot_be_built_is_told_by_its_own_name():
    assert refusal({"channels": {"choices": [4]}}, settings={"folds": 3, "loss": "nonsense"}).startswith(
        "loss 'nonsense' cannot be built: "
    )


def test_a_network_of_any_size_is_checked_without_being_allocated():
    check({"channels": {"choices": [100_000]}, "kernel_size": {"choices": [3, 99]}})  # needs petabytes


def test_a_study_reads_the_training_once_and_its_trials_get_it_with_the_plan(monkeypatch):
    read = []
    load = ConfigParser.load_config_file
    monkeypatch.setattr(ConfigParser, "load_config_file", lambda path: read.append(path) or load(path))
    bundle = Bundle.find("nsn")
    check_space(study({"depth": {"low": 1, "high": 3}, "channels": {"choices": [4, 8]}}), bundle)
    assert len(read) == 1
    sent = pickle.loads(pickle.dumps(bundle))
    assert network_cost(sent, {"depth": 1, "channels": 2}) == network_cost(
        bundle, {"depth": 1, "channels": 2}
    )
    assert len(read) == 1
