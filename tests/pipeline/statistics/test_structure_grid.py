from hscc.pipeline.statistics.structure_grid import full_grid, reduced_grid
from hscc.pipeline.statistics.structure_schema import AUTO, FIXED


def test_the_full_grid_is_the_whole_grid_and_the_searched() -> None:
    found = full_grid((1, 2), (1, 4, 8), ("hscc",), (6, 3), 768)
    assert len(found) == 2 * 3 + 1
    assert all([setting.budget_macs for setting in settings] == [3, 6] for settings in found)
    assert [(each[0].regions, each[0].clusters) for each in found][:2] == [(1, 1), (1, 4)]
    assert (found[-1][0].method, found[-1][0].regions, found[-1][0].clusters) == ("hscc", AUTO, AUTO)


def test_the_reduced_grid_is_coarsest_middle_and_finest() -> None:
    found = reduced_grid((4, 1, 2), (1, 2, 4, 8), (3, 6, 12), 96)
    settings = [setting for settings in found for setting in settings]
    assert [(each.method, each.regions, each.clusters) for each in settings] == [
        (FIXED, 1, 1), (FIXED, 2, 4), (FIXED, 4, 8),
    ]  # fmt: skip
    assert {(each.budget_macs, each.images) for each in settings} == {(6, 96)}


def test_a_small_grid_names_nothing_twice() -> None:
    assert len(reduced_grid((1,), (1,), (3,), 96)) == 1


def test_names_tell_settings_apart() -> None:
    full = full_grid((1, 2), (1, 2), ("hscc", "hscc_direct"), (3, 6), 768)
    names = [setting.name for settings in full for setting in settings]
    assert len(set(names)) == len(names)
