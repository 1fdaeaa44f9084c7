"""Configuration: every key known, every mistake one plain sentence."""

from pathlib import Path

import pytest
import yaml

from agent.app.settings import decision_settings
from agent.config.load import PROFILES, annotated, known_keys, load_config
from agent.config.renamed import RENAMED
from agent.config.schema import Config
from market.errors import EdgeclawError, Misconfigured

EXAMPLE = Path(__file__).parents[2] / "config" / "edgeclaw.example.yaml"


def refusal(text: str, tmp_path: Path) -> str:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(Misconfigured) as error:
        load_config(file)
    assert error.value.exit_code == 2
    return error.value.sentence()


def test_the_example_names_every_key_with_its_default() -> None:
    tree = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    named = {f"{s}.{k}" for s, keys in tree.items() for k in keys}
    assert named == {k for k in known_keys() if k.count(".") == 1}
    assert load_config(EXAMPLE) == Config()


def test_profiles_load_and_search_within_400_tokens() -> None:
    for profile in PROFILES:
        load_config(None, profile=profile)
    settings = decision_settings(load_config(None, profile="sample"), counted_in_tokens=True)
    assert settings.shadow and settings.limits.tokens == 400 and settings.limits.seconds is None


def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    said = refusal("edge: {tre_search: {depth: 3}}", tmp_path)
    assert "'edge.tre_search'" in said and "'edge.tree_search'" in said


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("edge: {budget: {tokens: lots}}", "edge.budget.tokens"),
        ("edge: {tree_search: {depth: 9}}", "edge.tree_search.depth"),
        ("edge: {cost: {watts: .inf}}", "edge.cost.watts"),
        ("edge: {cost: {kwh_price: .nan}}", "edge.cost.kwh_price"),
        ("edge: {cost: {basis: guess}}", "edge.cost.basis"),
        ("trading: {cash: -1}", "trading.cash"),
        ("trading: {cash: .nan}", "trading.cash"),
        ("trading: {cadence: 0}", "trading.cadence"),
        ("trading: {cadence: 7}", "trading.cadence"),
        ("trading: {cadence: 450}", "trading.cadence"),
        ("trading: {cadence: 0.5}", "trading.cadence"),
        ("trading: {cadence: .inf}", "trading.cadence"),
        ("edge: [1, 2]", "edge"),
        ("just a sentence", "sections"),
        ("edge: {a: [", "not valid YAML"),
    ],
)
def test_mistakes_are_named(text: str, named: str, tmp_path: Path) -> None:
    said = refusal(text, tmp_path)
    assert named in said and "\n" not in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeclawError, match="no configuration file at"):
        load_config(tmp_path / "none.yaml")


def test_durations_and_overrides() -> None:
    made = load_config(
        None, {"edge.latency_limit": "100ms", "trading.max_book_age": "2m", "edge.tree_search.policy": "greedy"}
    )
    assert made.edge.latency_limit == 0.1 and made.trading.max_book_age == 120
    assert decision_settings(made, counted_in_tokens=False).policy.branching == 1


@pytest.mark.parametrize(("given", "seconds"), [(30, 30), ("1m", 60), (100, 100), (300, 300), ("15m", 900)])
def test_a_cadence_fits_the_five_minute_grid_and_makes_another_run(given: object, seconds: int) -> None:
    made = load_config(None, {"trading.cadence": given})
    assert made.trading.cadence == seconds
    assert made.identity() != Config().identity()


def test_where_things_are_stored_is_not_part_of_a_run() -> None:
    assert load_config(None, {"storage.url": "sqlite:///x"}).identity() == Config().identity()
    assert load_config(None, {"edge.budget.tokens": 7}).identity() != Config().identity()
    assert load_config(None, {"edge.cost.token_price": 1e-9}).identity() != Config().identity(), (
        "it decides where to stop"
    )
    for measured in ({"basis": "tokens"}, {"kwh_price": 1.0}, {"watts": 9}):
        assert load_config(None, {f"edge.cost.{k}": v for k, v in measured.items()}).identity() == Config().identity()


def test_what_is_shown_explains_its_keys_and_is_a_configuration() -> None:
    made = load_config(None, {"edge.cost.watts": 40, "storage.url": "sqlite:///a # b"}, profile="sample")
    lines = annotated(made)
    assert Config.model_validate(yaml.safe_load("\n".join(lines))) == made
    assert "    kwh_price: 0.3  # dollars per kilowatt-hour" in lines


def test_the_price_of_a_token_has_moved_and_the_old_key_says_where(tmp_path: Path) -> None:
    assert "'edge.cost.token_price'" in refusal("edge: {token_price: 1.0e-8}", tmp_path)


_OTHER_VALUES = {
    "edge.together": 4,
    "edge.read_until": "2026-05-01",
    "trading.post": "0.02",
    "trading.fresh_for": "1h",
    "trading.delay_spread": 0.5,
    "trading.refused": 0.25,
    "trading.failed": 0.25,
    "trading.tick_changes": 0.25,
    "trading.stale": 0.25,
    "trading.late_payouts": "90s",
    "risk.market": "7",
    "risk.together": "7",
    "risk.day": "7",
    "service.market_silence": 7,
    "service.least_room": 7,
    "service.keep_prices": 7,
}
"""A value other than the default for each setting that has had another name."""


@pytest.mark.parametrize(("former", "value"), _OTHER_VALUES.items())
def test_a_former_name_is_accepted_with_a_warning_that_names_the_present_one(
    former: str, value: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    present = RENAMED[former]
    wanted = load_config(None, {present: value})
    assert wanted != Config() and not caplog.records
    section, key = former.split(".")
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump({section: {key: value}}), encoding="utf-8")
    for made in (load_config(file), load_config(None, {former: value})):
        assert made == wanted
    assert len(caplog.records) == 2
    for record in caplog.records:
        said = record.getMessage()
        assert record.levelname == "WARNING" and repr(former) in said and repr(present) in said and "\n" not in said


def test_former_names_are_gone_and_present_ones_known() -> None:
    assert set(_OTHER_VALUES) == set(RENAMED)
    known = set(known_keys())
    assert set(RENAMED.values()) <= known and not set(RENAMED) & known


def test_a_setting_under_both_names_is_refused(tmp_path: Path) -> None:
    said = refusal("trading: {stale: 0.1, outage_rate: 0.2}", tmp_path)
    assert "'trading.stale'" in said and "'trading.outage_rate'" in said


def test_an_override_wins_over_a_file_whatever_the_names(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("trading: {stale: 0.1}", encoding="utf-8")
    assert load_config(file, {"trading.outage_rate": 0.2}).trading.outage_rate == 0.2


LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "more than 100,000 values"),
        (MERGES, "more than 100,000 values"),
        ("edge: &e\n  again: *e\n", "more than 100,000 values"),
        ("[" * 5_000, "nested too deeply"),
        ("edge: " + "[" * 5_000 + "]" * 5_000, "nested too deeply"),
        ("#" * (1 << 20) + "\nedge: {}", "larger than 1,048,576 bytes"),
        ("edge: {knowledge_cutoff: 2026-13-45}", "a date or a number that cannot be"),
        ("edge: {seed: " + "9" * 5_000 + "}", "a date or a number that cannot be"),
    ],
    ids=["aliases", "merges", "itself", "deep", "deep and closed", "large", "no date", "no number"],
)
def test_a_file_that_would_take_the_memory_is_refused_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    sentence = refusal(text, tmp_path)
    assert said in sentence and len(sentence) < 300


def test_a_device_that_never_ends_is_no_configuration() -> None:
    with pytest.raises(Misconfigured, match="larger than"):
        load_config(Path("/dev/zero"))


def test_an_alias_that_stays_small_is_read(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("trading: &t {max_order: 7}\nrisk:\n  order: 9\n", encoding="utf-8")
    assert load_config(file).trading.max_order == 7
    file.write_text("risk: &r {order: 9}\ntrading: {max_order: 7, max_market: 8}\npromotion: {days: &d 20}\n")
    assert load_config(file).promotion.days == 20
    file.write_text("risk: {order: &most 9, market_exposure: *most}\n", encoding="utf-8")
    assert load_config(file).risk.market_exposure == 9
