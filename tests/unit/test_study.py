"""The study finds what is known about a known distribution, and ends with where it is kept."""

import pytest
from typer.testing import CliRunner

from stream_detector.cli.app import app
from stream_detector.errors import ConfigError
from stream_detector.tracking.run_directory import RunDirectory
from stream_detector.tracking.study import StudySettings, study

pytestmark = pytest.mark.thorough

SMALL = StudySettings(architecture="shallow", features=2, records=400, steps=120)


def silent(*_):
    """Says nothing."""


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A small study, its run and what it found."""
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), SMALL.to_dict(), 3)
    return run, *study(SMALL, 3, run, silent)


def test_detection_by_the_true_density_grows_with_size(studied):
    """The larger an anomaly, the better the density tells it, from near chance to near certainty."""
    _, _, findings = studied
    areas = [one.density for one in findings]
    assert areas == pytest.approx(sorted(areas), abs=0.02)
    assert areas[0] < 0.75
    assert areas[-1] > 0.95


def test_the_discriminator_never_beats_the_density(studied):
    """At the sweet spot the mean over the sizes is below what the density reaches."""
    _, spot, findings = studied
    assert sum(one.sweet_spot for one in findings) < sum(one.density for one in findings)
    worst, best = (sum(getattr(one, moment) for one in findings) for moment in ("worst_after", "sweet_spot"))
    assert worst <= best or spot.step == spot.steps[-1]


def test_the_same_seed_studies_the_same(studied, tmp_path, no_pictures):
    """Another run with the same seed finds the same, to the last digit."""
    again = study(SMALL, 3, RunDirectory.create(tmp_path, SMALL.to_dict(), 3), silent)
    assert again == studied[1:]


def test_study_command_ends_with_its_run(tmp_path, no_pictures):
    """The command prints a table and the run directory, which it can also resume."""
    options = ["--architecture", "shallow", "--features", "1", "--records", "200", "--steps", "100"]
    done = CliRunner().invoke(app, ["study", *options, "--distribution", "uniform", "--run-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.iterdir()
    assert done.output.strip().endswith(f"run directory: {path}")
    assert "sweet spot" in done.output
    assert CliRunner().invoke(app, ["study", "--resume", str(path)]).exit_code == 0


def test_unknown_names_are_refused(tmp_path):
    """A wrong name, or a run that is no study, is an error before anything is trained."""
    with pytest.raises(ConfigError, match="distribution 'gauss'"):
        StudySettings.checked("gauss", "mlp", 2, 100, 100)
    with pytest.raises(ConfigError, match="architecture 'cnn'"):
        StudySettings.checked("normal", "cnn", 2, 100, 100)
    with pytest.raises(ConfigError, match="not the run of a study"):
        StudySettings.from_run(RunDirectory.create(tmp_path, {"model": {}}, 0))
