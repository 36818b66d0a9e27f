import json

import pytest

import ddpm_ref
from ddpm_ref.errors import CheckpointError, OutputError
from ddpm_ref.training import fit, log
from ddpm_ref.training.folder import LOG_NAME


@pytest.fixture(scope="module")
def logged(tmp_path_factory, tiny_config):
    folder = tmp_path_factory.mktemp("run")
    return fit(tiny_config(), folder), folder / LOG_NAME


@pytest.fixture
def writer(tmp_path, tiny_config):
    """Makes a log of steps 1 to 5 and an end, as of a run killed later."""
    made = log.Writer(tmp_path / LOG_NAME, tiny_config(), "cpu")
    for step in range(1, 6):
        made.step(step=step, loss=1.0 / step, learning_rate=0.1, gradient_norm=2.0, seconds=0.5 * step)
    yield made
    made.close()


def test_a_log_has_a_header_every_step_and_the_end(logged, tiny_config):
    run, path = logged
    told = log.read(path)
    assert told.header["config"] == tiny_config().to_dict()
    assert told.header["ddpm_ref"] == ddpm_ref.__version__
    assert set(told.header) >= {"torch", "python", "device", "threads"}
    assert told.steps["step"].tolist() == [1, 2, 3]
    assert told.steps["loss"].tolist() == run.checkpoint.losses.tolist()
    rates = [tiny_config().learning_rate_at(step, (step - 1) / 3) for step in (1, 2, 3)]
    assert told.steps["learning_rate"].tolist() == rates
    assert all(told.steps["gradient_norm"] > 0)
    assert told.steps["seconds"].tolist() == sorted(told.steps["seconds"])
    assert told.events == [
        {"kind": "event", "event": "end", "step": 3, "stopped": "steps", "held_out_loss": run.held_out_loss}
    ]
    assert told.held_out_loss == run.held_out_loss
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_the_gradient_s_length_is_that_before_it_was_shortened(tmp_path, tiny_config):
    fit(tiny_config(max_gradient_norm=1e-3), tmp_path / "short")
    fit(tiny_config(max_gradient_norm=None), tmp_path / "free")
    short, free = (log.read(tmp_path / name / LOG_NAME).steps["gradient_norm"] for name in ("short", "free"))
    assert short[0] == free[0] > 1e-3


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5]), (2, [1, 2, 4]), (9, [1])])
def test_a_line_every_so_many_steps(every, steps, tmp_path, tiny_config):
    fit(tiny_config(max_steps=5, log_every=every), tmp_path)
    assert log.read(tmp_path / LOG_NAME).steps["step"].tolist() == steps


def test_going_on_drops_the_steps_beyond_the_checkpoint_and_a_half_written_line(writer, tmp_path, tiny_config):
    path = tmp_path / LOG_NAME
    with path.open("ab") as file:
        file.write(b'{"kind": "step", "st')
    assert log.read(path).steps["step"].tolist() == [1, 2, 3, 4, 5]
    again = log.Writer(path, tiny_config(max_steps=9), "cpu", kept=3)
    again.step(step=4, loss=9.0, learning_rate=0.1, gradient_norm=2.0, seconds=2.0)
    told = log.read(path)
    assert told.steps["step"].tolist() == [1, 2, 3, 4]
    assert told.steps["loss"].tolist() == [1.0, 1 / 2, 1 / 3, 9.0]
    assert [(event["event"], event["step"], event["max_steps"]) for event in told.events] == [("resume", 3, 9)]
    assert told.held_out_loss is None
    again.close()


def test_a_run_from_the_start_begins_a_new_log(writer, tmp_path, tiny_config):
    log.Writer(tmp_path / LOG_NAME, tiny_config(seed=1), "cpu").close()
    told = log.read(tmp_path / LOG_NAME)
    assert (told.header["config"]["seed"], len(told.steps["step"]), told.events) == (1, 0, [])


def test_the_log_of_another_run_is_not_gone_on_with(writer, tmp_path, tiny_config):
    # A run that was to replace another was killed before its first checkpoint; the old run is resumed.
    log.Writer(tmp_path / LOG_NAME, tiny_config(seed=1), "cpu", kept=3).close()
    told = log.read(tmp_path / LOG_NAME)
    assert (told.header["config"]["seed"], len(told.steps["step"])) == (1, 0)
    assert told.is_of(tiny_config(seed=1, max_steps=99))
    assert not told.is_of(tiny_config())


@pytest.mark.parametrize("ruin", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\x00" * 99)])
def test_a_lost_log_is_no_reason_not_to_go_on(ruin, writer, tmp_path, tiny_config):
    ruin(tmp_path / LOG_NAME)
    log.Writer(tmp_path / LOG_NAME, tiny_config(), "cpu", kept=3).close()
    assert log.read(tmp_path / LOG_NAME).events[0]["step"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "not the log of a run"),
        (b'{"kind": "header", "format": "other", "config": {}}\n', "not the log of a run"),
        (b"{}\n{}\n", "its line 1 is not what a log holds"),
        (b'[1]\n{"kind": []}\n', "its line 1 "),
    ],
)
def test_what_is_no_log_is_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / LOG_NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        log.read(tmp_path / LOG_NAME)


def test_a_damaged_line_in_the_middle_is_named(writer, tmp_path):
    lines = (tmp_path / LOG_NAME).read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"loss": 0.3', b'"loss": "0.3"').replace(b"0.3333333333333333", b'"?"')
    (tmp_path / LOG_NAME).write_bytes(b"".join(lines))
    with pytest.raises(CheckpointError, match="its line 4 is not what a log holds"):
        log.read(tmp_path / LOG_NAME)


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "event", "event": "end", "step": "a", "held_out_loss": 1.0}',
        '{"kind": "event", "event": "end", "step": null, "held_out_loss": 1.0}',
        '{"kind": "event", "event": "end", "step": true, "held_out_loss": 1.0}',
        '{"kind": "event", "event": "end", "step": 3}',
        '{"kind": "event", "event": "end", "step": 3, "held_out_loss": null}',
        '{"kind": "event", "event": ["end"], "step": 3}',
        '{"kind": "step", "step": 2.5, "loss": 1.0, "learning_rate": 1.0, "gradient_norm": 1.0, "seconds": 1.0}',
        '{"kind": "step", "step": 2, "loss": true, "learning_rate": 1.0, "gradient_norm": 1.0, "seconds": 1.0}',
        '{"kind": "step", "step": 2, "loss": 1%s, "learning_rate": 1.0, "gradient_norm": 1.0, "seconds": 1.0}'
        % ("0" * 400),
        '{"kind": "header", "format": "ddpm_ref.log", "config": 3}',
        "[" * 100_000,
    ],
)
def test_a_line_that_makes_no_sense_is_named_when_read_and_dropped_when_gone_on_with(
    line, writer, tmp_path, tiny_config
):
    path = tmp_path / LOG_NAME
    with path.open("a") as file:
        file.write(f"{line}\n")
    assert log.read(path).steps["step"].tolist() == [1, 2, 3, 4, 5]  # as a last line, it was being written
    writer.event("end", step=5, held_out_loss=0.5)
    with pytest.raises(CheckpointError, match="its line 7 is not what a log holds"):
        log.read(path)
    log.Writer(path, tiny_config(), "cpu", kept=5).close()
    told = log.read(path)
    assert told.steps["step"].tolist() == [1, 2, 3, 4, 5]
    assert [event["event"] for event in told.events] == ["end", "resume"]


@pytest.mark.parametrize("config", [3, None, []])
def test_a_header_that_makes_no_sense_is_named_and_a_new_log_begins(config, writer, tmp_path, tiny_config):
    path = tmp_path / LOG_NAME
    header, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(header), "config": config}) + "\n" + "".join(rest))
    with pytest.raises(CheckpointError, match="its line 1 is not what a log holds"):
        log.read(path)
    log.Writer(path, tiny_config(), "cpu", kept=5).close()
    assert log.read(path).is_of(tiny_config())


def test_a_line_that_cannot_be_written_is_an_output_error(tmp_path, tiny_config):
    made = log.Writer(tmp_path / LOG_NAME, tiny_config(), "cpu")
    made.close()
    made = log.Writer(tmp_path / LOG_NAME, tiny_config(), "cpu")
    made._file.close()
    made._file = open("/dev/full", "ab")  # noqa: SIM115 - closed below
    with pytest.raises(OutputError, match=r"cannot be written .*the last checkpoint stays"):
        made.event("end", step=0)
    made.close()
